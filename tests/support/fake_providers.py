"""All providers in memory: what each of their calls does is a script."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.ports import ProviderCall

# What a provider does in one call: yield a chunk, raise, or wait for an event.
Script = Sequence[dict[str, Any] | Exception | asyncio.Event]


@dataclass(slots=True)
class Made:
    """One call that was made; `closed` once its stream was closed, `completed` when it ran to its end."""

    call: ProviderCall
    closed: bool = False
    completed: bool = False


@dataclass
class FakeProviders:
    """All providers: per provider model a list of scripts, one per call; the last one is repeated."""

    scripts: dict[str, list[Script]] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def client_for(self, kind: str) -> "FakeProviders":
        return self

    def will(self, model: ModelSpec, *scripts: Script) -> None:
        """What the calls of a model do, one after the other."""
        self.scripts[model.provider_model] = list(scripts)

    @property
    def models(self) -> list[str]:
        """The models called, in order."""
        return [made.call.model for made in self.made]

    async def stream_chat(self, call: ProviderCall) -> AsyncGenerator[dict[str, Any], None]:
        made = Made(call)
        self.made.append(made)
        self.called.set()
        queue = self.scripts[call.model]
        script = queue.pop(0) if len(queue) > 1 else queue[0]
        try:
            for step in script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
            made.completed = True
        finally:
            made.closed = True
