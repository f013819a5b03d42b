"""The router under test: three models of the simulator whose answers take the same known time and are equally long."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.gateway.history import Explained, PastModel, past_prompts
from bench.gateway.targets import BadAnswer, ChatTarget
from bench.installation import Installation
from bench.report import Progress
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.requests.records import HistoryScope

ROUTER_ID = "bench"
SCOPE = HistoryScope(OPERATOR_USER, ROUTER_ID)
SHORT_TOKENS = 20
# Simulator's name, quality, latency in ms, USD per input and output token: as the seeded catalogue has them.
_MODELS = (
    ("small", 0.6, 400.0, 0.15e-6, 0.6e-6),
    ("medium", 0.8, 700.0, 0.8e-6, 4e-6),
    ("large", 0.95, 1500.0, 3e-6, 15e-6),
)


def past_models() -> Sequence[PastModel]:
    """What the router's history is made of."""
    return [
        PastModel(_model_id(name), quality, latency_ms, cost_usd=40 * in_usd + SHORT_TOKENS * out_usd)
        for name, quality, latency_ms, in_usd, out_usd in _MODELS
    ]


@dataclass(frozen=True, slots=True)
class Answers:
    """How the provider answers, whichever model is asked: after `upstream_ms`, with so many `tokens`, all at once or,
    after the first, one by one, 4 ms apart."""

    upstream_ms: float
    tokens: int = SHORT_TOKENS
    one_by_one: bool = False

    def model(self, name: str = "small") -> str:
        """What the simulator is to be asked for, so that `name` answers like this."""
        if self.one_by_one:
            # Every model of the simulator has a pace of its own: all answer at that of one of them.
            return f"small+firsttoken{self.upstream_ms:g}+tokens{self.tokens}"
        return f"{name}+latency{self.upstream_ms:g}+tokens{self.tokens}"


def direct_target(installation: Installation, model: str) -> ChatTarget:
    """The provider itself: what every other target is compared with."""
    return ChatTarget("direct", f"{installation.settings.simulator_url}/v1/chat/completions", model=model)


async def provider_calls(session: aiohttp.ClientSession, installation: Installation) -> int:
    """How many calls the simulator has seen since it began (it numbers them, and shows the last 10,000)."""
    async with session.get(f"{installation.settings.simulator_url}/_sim/calls") as answer:
        calls = (await answer.json())["calls"]
        return int(calls[-1]["number"]) if calls else 0


class BenchRouter:
    """The router in a running installation, managed over its API like any other."""

    def __init__(self, installation: Installation, session: aiohttp.ClientSession) -> None:
        self._url, self._session = installation.settings.api_url, session
        self._headers = {"authorization": f"Bearer {installation.admin_key}"}

    @property
    def target(self) -> ChatTarget:
        """Where its requests go."""
        return ChatTarget("gateway", f"{self._url}/router/{ROUTER_ID}", headers=self._headers)

    async def put(self, answers: Answers) -> None:
        """Create it, or change how its models answer. Raises BadAnswer."""
        for name, quality, latency_ms, in_usd, out_usd in _MODELS:
            body = {
                "id": _model_id(name),
                "provider": "simulator",
                "providerModel": answers.model(name),
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


async def prepare_history(
    installation: Installation, router: BenchRouter, rows: int, rest_s: float, progress: Progress
) -> float:
    """Create the router with so many past prompts, rest, and wait until the gateway has them in memory; the seconds
    that storing them took.

    They are stored before the first query, so that the gateway loads them as a restarted one would.
    """
    async with past_prompts(installation.settings, SCOPE, past_models()) as history:
        progress(f"storing {rows:,} past prompts")
        began = time.perf_counter()
        await history.fill(rows)
        fill_s = time.perf_counter() - began
        await router.put(Answers(upstream_ms=20.0))
        progress(f"letting them settle for {rest_s:g} s")
        await asyncio.sleep(rest_s)
        progress("waiting until the gateway answers from memory")
        await history.wait_until_hot(router.explain)
    return fill_s
