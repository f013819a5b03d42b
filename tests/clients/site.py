"""What the clients talk to: providers of three formats over one simulator, their models, and routers over those.

`router/openai`, `router/claude` and `router/gemini` have one model each, whose provider refuses what the real one
refuses. `router/turns-1` to `-3` send the first turn of a conversation to one provider and the second to another: their
preferred model fails once for every prompt. `router/long` answers at length. `router/none` does not exist.
"""

import contextlib
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.world import Gateway, World, wait_until

# Name → kind of the provider, its own name of the model.
FORMATS = {
    "openai": ("openai", "gpt-4.1"),
    "claude": ("anthropic", "claude-sonnet-4-5"),
    "gemini": ("google", "gemini-3-pro-preview"),
}
# Name → who answers the second turn, who answers the first because that one fails then.
TURNS = {"turns-1": ("openai", "claude"), "turns-2": ("claude", "gemini"), "turns-3": ("gemini", "openai")}
_CAPABILITIES = ["chat", "functions", "vision", "json", "streaming", "reasoning"]
_PRICES = {"costPerInputToken": 1e-6, "costPerOutputToken": 2e-6, "limits": {"contextWindow": 1_000_000}}


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client that was given a key of its own, by which its requests are found."""

    key_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Site:
    """A running gateway, its administrator's side."""

    world: World
    gateway: Gateway

    def prepare(self) -> None:
        """Make what all clients share."""
        for name, (kind, model) in FORMATS.items():
            address = f"{self.world.simulator_url}/v1" if kind == "openai" else self.world.simulator_url
            self._put(f"providers/at-{name}", {"kind": kind, "baseUrl": address, "apiKey": "sk-0123456789"})
            self._put_model(f"own/{name}", name, f"{model}+strict")
            self._put_router(name, f"own/{name}")
        self._put_model("own/long", "openai", "gpt-4.1+tokens4000")
        self._put_router("long", "own/long")

    def admit(self, client: str) -> Visitor:
        """A key for this client, and routers whose models fail for nobody else."""
        for router, (second, first) in TURNS.items():
            model = f"own/{client}-{router}"
            self._put_model(model, second, f"{FORMATS[second][1]}+strict+503x1")
            self._put_router(router, model, f"own/{first}")
        made = self._call("POST", "keys", {"name": client, "scopes": ["route"]})
        return Visitor(made["id"], made["key"])

    def check_turns(self, visitor: Visitor) -> str | None:
        """Whether every conversation had its turns at two providers; None, or what was wrong."""
        for router, (second, first) in TURNS.items():
            providers = [row["provider"] for row in self._rows(visitor, router, 2)]
            if providers[:1] != [f"at-{first}"] or f"at-{second}" not in providers[1:]:
                return f"{router} was answered by {providers}"
        return None

    def check_canceled(self, visitor: Visitor) -> str | None:
        """Whether the broken stream was recorded as canceled; None, or what was wrong."""
        statuses = [row["status"] for row in self._rows(visitor, "long", 1)]
        return None if statuses[-1:] == ["canceled"] else f"recorded as {statuses}"

    def _rows(self, visitor: Visitor, router: str, least: int) -> list[dict[str, Any]]:
        """The requests of this client at this router, oldest first, as soon as there are as many as are expected."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            listed = self._call("GET", f"analytics/requests?routerId={router}&limit=200")["items"]
            found[:] = [row for row in reversed(listed) if row["apiKeyId"] == visitor.key_id]
            return len(found) >= least

        with contextlib.suppress(AssertionError):  # whoever asked says what is missing
            wait_until(enough, f"fewer than {least} requests", patience_s=30.0)
        return found

    def _put_model(self, model: str, name: str, provider_model: str) -> None:
        about = {"provider": f"at-{name}", "providerModel": provider_model, "capabilities": _CAPABILITIES}
        self._put(f"models/{model}", {**about, **_PRICES})

    def _put_router(self, router: str, model: str, *fallbacks: str) -> None:
        about = {"mode": "preferredModel", "preferredModel": model, "sameModelRetries": 0}
        self._put(f"routers/{router}", {**about, "fallbackStrategy": _strategy(fallbacks)})

    def _put(self, path: str, body: dict[str, Any]) -> None:
        self._call("PUT", path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.world.admin_key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.gateway.url}/api/{path}", data, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30.0) as answer:  # noqa: S310 - our own URL
            return json.load(answer)


def _strategy(fallbacks: Sequence[str]) -> dict[str, Any]:
    return {"fallbackModels": list(fallbacks), "retryAttempts": len(fallbacks)}
