"""A model that fails, stays away for a while and comes back: many requests, during all of which every client is served.

The phases: healthy, failing until the breaker opens, open, probed in vain, mended, closed again.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bench.faults.runs import FaultLab, prices, until
from bench.faults.scenarios import ANSWER_TOKENS
from bench.faults.verdicts import Answered, Judgement
from bench.gateway.targets import BadAnswer
from modelpilot.providers.breaker import BreakerRules

# Two openings, of five and of ten seconds, and as much again.
PHASE_WITHIN_S = 30.0
_BURST = 10
_PAUSE_S = 0.2


@dataclass(slots=True)
class FlappingEvidence:
    """What was seen. Counts of requests, `unserved` by what the client got instead; calls of the flapping model.

    `called_while_open` is how often it was called in a burst of requests that took `burst_s` while its breaker was
    open, `failing_calls` how often in the whole time in which it failed (`failing_s`). `state` is the breaker's last.
    """

    requests: int = 0
    unserved: Counter[str] = field(default_factory=Counter)
    opened: bool = False
    called_while_open: int = 0
    burst_s: float = 0.0
    probed: bool = False
    failing_calls: int = 0
    failing_s: float = 0.0
    came_back: bool = False
    state: str = ""
    seconds: float = 0.0


def judge_flapping(seen: FlappingEvidence, rules: BreakerRules | None = None) -> Judgement:
    """Every client served, the failing model left alone but for probes, and taken back."""
    known = rules or BreakerRules()
    wrong = [f"{count} of {seen.requests} clients got {what}" for what, count in seen.unserved.items()]
    if not seen.requests:
        wrong.append("nothing was asked")
    # A probe per opening, and each opening lasts at least the first one's time.
    if seen.called_while_open > (allowed := int(seen.burst_s / known.first_open_s) + 1):
        wrong.append(f"{seen.called_while_open} calls while open, {allowed} probes were allowed")
    allowed = known.failures_in_a_row + int(seen.failing_s / known.first_open_s) + 1
    if seen.failing_calls > allowed:
        wrong.append(f"{seen.failing_calls} calls of the failing model, {allowed} were allowed")
    steps = {"open": seen.opened, "be probed": seen.probed, "come back": seen.came_back}
    missed = [f"it did not {step}" for step, done in steps.items() if not done]
    if seen.state != "closed":
        missed.append(f"its breaker is {seen.state or 'unknown'} in the end")
    return Judgement(tuple(wrong), tuple(missed))


class Flapping:
    """One run of it on a gateway."""

    def __init__(self, lab: FaultLab) -> None:
        self._lab, self.seen = lab, FlappingEvidence()
        self._name = f"flapping.{secrets.token_hex(3)}"
        self._model, self._other = f"{self._name}/flappy", f"{self._name}/steady"
        self._failing_since = 0.0

    async def run(self) -> FlappingEvidence:
        """All phases; a phase that does not come in time ends the run. Raises BadAnswer."""
        began = time.monotonic()
        await self._prepare()
        phases = (self._healthy, self._opens, self._left_alone, self._probed, self._comes_back)
        for phase in phases:
            if not await phase():
                break
        await self._switch({})
        self.seen.state = await self._state()
        self.seen.seconds = time.monotonic() - began
        return self.seen

    async def _prepare(self) -> None:
        await self._lab.put_model(self._model, f"flappy+tokens{ANSWER_TOKENS}+latency5", prices(0))
        await self._lab.put_model(self._other, f"small+tokens{ANSWER_TOKENS}+latency5", prices(1))
        router = {
            "availableModels": [self._model, self._other],
            "objective": {"costWeight": 1.0},
            "fallbackStrategy": {"fallbackModels": [self._other], "retryAttempts": 2},
            "sameModelRetries": 0,
        }
        await self._lab.put("routers", self._name, router)

    async def _healthy(self) -> bool:
        return await self._answers() == self._model

    async def _opens(self) -> bool:
        await self._switch({"status": 503})
        self._failing_since = time.monotonic()

        async def opened() -> bool:
            await self._answers()
            return await self._state() == "open"

        self.seen.opened = await until(opened, PHASE_WITHIN_S)
        return self.seen.opened

    async def _left_alone(self) -> bool:
        before, began = await self._calls(), time.monotonic()
        await asyncio.gather(*(self._answers() for _ in range(_BURST)))
        self.seen.burst_s = time.monotonic() - began
        self.seen.called_while_open = await self._calls() - before
        return True

    async def _probed(self) -> bool:
        before = await self._calls()

        async def called() -> bool:
            await self._answers()
            return await self._calls() > before

        self.seen.probed = await _paced(called)
        self.seen.failing_s = time.monotonic() - self._failing_since
        self.seen.failing_calls = await self._calls() - 1  # but for the healthy one
        return self.seen.probed

    async def _comes_back(self) -> bool:
        await self._switch({})

        async def back() -> bool:
            return await self._answers() == self._model

        self.seen.came_back = await _paced(back)
        return self.seen.came_back

    async def _answers(self) -> str | None:
        """The model that answered one request; None where the client was not served."""
        answered = await self._lab.ask(f"/router/{self._name}", f"#{self._name}# [easy] Explain routers.")
        self.seen.requests += 1
        if not _served(answered):
            self.seen.unserved[f"{answered.status} {answered.error.get('code')}"] += 1
            return None
        return str(answered.described.get("selectedModel"))

    async def _calls(self) -> int:
        counts = (await self._lab.calls(f"#{self._name}#"))["counts"]["byModel"]
        return sum(count for model, count in counts.items() if model.startswith("flappy"))

    async def _state(self) -> str:
        listing = await self._lab.get(f"{self._lab.api_url}/api/health/deployments")
        return next((str(item["state"]) for item in listing["items"] if item["model"] == self._model), "")

    async def _switch(self, faults: dict[str, Any]) -> None:
        body = {"model": "flappy", "faults": faults, "match": f"#{self._name}#"}
        async with self._lab.session.post(f"{self._lab.simulator_url}/_sim/faults", json=body) as answer:
            if answer.status != 200:
                raise BadAnswer(f"the simulator does not switch: {answer.status}")


def _served(answered: Answered) -> bool:
    whole = answered.usage.get("completion_tokens") == ANSWER_TOKENS
    return answered.status == 200 and answered.ended and answered.finish == "stop" and whole


async def _paced(condition: Callable[[], Awaitable[bool]]) -> bool:
    async def paced() -> bool:
        await asyncio.sleep(_PAUSE_S)
        return await condition()

    return await until(paced, PHASE_WITHIN_S)
