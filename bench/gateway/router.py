"""The router under test: three models of the simulator whose answers take the same known time."""

from collections.abc import Sequence
from typing import Any

import aiohttp

from bench.gateway.history import Explained, PastModel
from bench.gateway.targets import BadAnswer, ChatTarget
from bench.installation import Installation
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.requests.records import HistoryScope

ROUTER_ID = "bench"
SCOPE = HistoryScope(OPERATOR_USER, ROUTER_ID)
# Equally long answers, so that the model chosen makes no difference to the provider's time.
ANSWER_TOKENS = 20
# Simulator's name, quality, latency in ms, USD per input and output token: as the seeded catalogue has them.
_MODELS = (
    ("small", 0.6, 400.0, 0.15e-6, 0.6e-6),
    ("medium", 0.8, 700.0, 0.8e-6, 4e-6),
    ("large", 0.95, 1500.0, 3e-6, 15e-6),
)


def past_models() -> Sequence[PastModel]:
    """What the router's history is made of."""
    return [
        PastModel(_model_id(name), quality, latency_ms, cost_usd=40 * in_usd + ANSWER_TOKENS * out_usd)
        for name, quality, latency_ms, in_usd, out_usd in _MODELS
    ]


def direct_target(installation: Installation, upstream_ms: float) -> ChatTarget:
    """The provider itself: what every other target is compared with."""
    url = f"{installation.settings.simulator_url}/v1/chat/completions"
    return ChatTarget("direct", url, model=_provider_model("small", upstream_ms))


class BenchRouter:
    """The router in a running installation, managed over its API like any other."""

    def __init__(self, installation: Installation, session: aiohttp.ClientSession) -> None:
        self._url, self._session = installation.settings.api_url, session
        self._headers = {"authorization": f"Bearer {installation.admin_key}"}

    @property
    def target(self) -> ChatTarget:
        """Where its requests go."""
        return ChatTarget("gateway", f"{self._url}/router/{ROUTER_ID}", headers=self._headers)

    async def put(self, upstream_ms: float) -> None:
        """Create it, or change how long its models take. Raises BadAnswer."""
        for name, quality, latency_ms, in_usd, out_usd in _MODELS:
            body = {
                "id": _model_id(name),
                "provider": "simulator",
                "providerModel": _provider_model(name, upstream_ms),
                "capabilities": ["chat"],
                "avgLatencyMs": latency_ms,
                "qualityScore": quality,
                "costPerInputToken": in_usd,
                "costPerOutputToken": out_usd,
            }
            await self._json("PUT", f"/api/models/{_model_id(name)}", body)
        router = {
            "id": ROUTER_ID,
            "availableModels": [_model_id(model[0]) for model in _MODELS],
            "objective": {"costWeight": 0.5, "latencyWeight": 0.2, "qualityWeight": 0.3},
            "fallbackStrategy": {"fallbackModels": [], "retryAttempts": 0},
        }
        await self._json("PUT", f"/api/routers/{ROUTER_ID}", router)

    async def explain(self, prompt: str) -> Explained:
        """The neighbours of a decision. Raises BadAnswer."""
        body = {"messages": [{"role": "user", "content": prompt}]}
        decision = (await self._json("POST", f"/router/{ROUTER_ID}/explain", body))["decision"]
        return [(neighbour["requestId"], neighbour["quality"]) for neighbour in decision["neighbours"]]

    async def _json(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._session.request(method, self._url + path, json=body, headers=self._headers) as answer:
            if answer.status not in (200, 201):
                raise BadAnswer(f"{method} {path}: status {answer.status}: {(await answer.text())[:200]}")
            content: dict[str, Any] = await answer.json()
            return content


def _model_id(name: str) -> str:
    return f"bench/{name}"


def _provider_model(name: str, upstream_ms: float) -> str:
    return f"{name}+latency{upstream_ms:g}+tokens{ANSWER_TOKENS}"
