"""Whether a fault was survived: pure judgement of what client, gateway and provider saw."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.faults.scenarios import Scenario

Verdict = Literal["pass", "safe", "fail"]

# Beyond it nobody waits any more: none of the scenarios has so much to wait for.
HANGS_AFTER_S = 45.0
# What a call that broke off has cost is an estimate from its characters; the simulator counts words.
ESTIMATE_FACTOR = 3.0
# Waits are measured by two clocks of which one has milliseconds.
_CLOCK_TOLERANCE_S = 0.02
_RANK: Sequence[Verdict] = ("pass", "safe", "fail")


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per token of one model."""

    input_usd: float
    output_usd: float

    def cost_usd(self, call: Mapping[str, Any]) -> float:
        """What the simulator's own count of a call's tokens costs."""
        return float(call["promptTokens"] * self.input_usd + call["tokens"] * self.output_usd)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a client got: `described` is our object, and `ended` says that it was told that the answer is whole."""

    status: int
    text: str = ""
    ended: bool = False
    finish: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    described: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Answered):
    """What was seen of one request, beside what the client got.

    `view` is `GET /v1/requests/{id}`, `calls` the simulator's log, oldest first; `models` are the ids of the scenario's
    models, and `right_text` what the answering model says when undisturbed.
    """

    seconds: float
    view: Mapping[str, Any] = field(default_factory=dict)
    calls: Sequence[Mapping[str, Any]] = ()
    called: Sequence[int] = ()
    models: Sequence[str] = ()
    right_text: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`wrong` must never happen; `missed` is what a pass would have needed beside a clean end."""

    wrong: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """pass: as good as possible; safe: a clean failure, or a detour, where a pass was possible; fail."""
        return "fail" if self.wrong else "safe" if self.missed else "pass"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of several; nothing that was not tried passes."""
    return max(verdicts, key=_RANK.index) if verdicts else "fail"


def judge(scenario: Scenario, seen: Evidence, prices: Sequence[Prices]) -> Judgement:
    """Hold what was seen against what has to happen; `prices` are those of the scenario's models."""
    truth = _untrue(scenario, seen) if seen.ended else _unclean(seen)
    wrong = (*truth, *_unbounded(scenario, seen), *_unrecorded(seen), *_misbilled(scenario, seen, prices))
    return Judgement(tuple(wrong), tuple(_missed(scenario, seen)))


def _untrue(scenario: Scenario, seen: Evidence) -> Iterator[str]:
    """An answer that the client was told is whole must be so, and be that of the model named."""
    if seen.text != seen.right_text:
        yield f"presented {len(seen.text)} characters that are not the answer ({len(seen.right_text)}) as whole"
    if seen.finish != scenario.finish:
        yield f"finish reason {seen.finish}, not {scenario.finish}"
    if seen.status != 200 or seen.error:
        yield f"an answer with status {seen.status} and error {dict(seen.error)}"
    if seen.called and seen.described.get("selectedModel") != seen.models[seen.called[-1]]:
        yield f"names {seen.described.get('selectedModel')}, but {seen.models[seen.called[-1]]} answered"
    if seen.calls and seen.usage.get("completion_tokens") != seen.calls[-1]["tokens"]:
        yield f"usage {seen.usage.get('completion_tokens')}, the provider counted {seen.calls[-1]['tokens']} tokens"


def _unclean(seen: Evidence) -> Iterator[str]:
    """A failure must say so, in OpenAI's shape; before the first byte, with a status that is no success."""
    if not all(seen.error.get(name) for name in ("message", "type", "code")):
        yield f"no error that a client could read: status {seen.status}, {dict(seen.error)}"
    if seen.status >= 500 and seen.status not in (502, 504):
        yield f"status {seen.status}"
    if seen.status == 200 and not seen.text:
        yield "status 200 for an error before the first byte"
    if not seen.right_text.startswith(seen.text):
        yield "gave the client a text that is not the beginning of the answer"


def _unbounded(scenario: Scenario, seen: Evidence) -> Iterator[str]:
    """No more calls than allowed, none sooner than allowed, no hang."""
    if len(seen.calls) > len(scenario.calls):
        yield f"{len(seen.calls)} provider calls, at most {len(scenario.calls)} were allowed"
    if any(call["outcome"] == "running" for call in seen.calls):
        yield "a provider call goes on behind the request's end"
    if seen.seconds > HANGS_AFTER_S:
        yield f"took {seen.seconds:.1f} s"
    times = [call["receivedS"] for call in seen.calls]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for number, (gap, least) in enumerate(zip(gaps, scenario.gaps_s, strict=False)):
        if gap < least - _CLOCK_TOLERANCE_S:
            yield f"repeated after {gap:.2f} s (call {number + 2}), {least:.2f} s were asked for"


def _unrecorded(seen: Evidence) -> Iterator[str]:
    """Exactly one terminal row, which lists the calls that the provider saw."""
    status = "completed" if seen.ended else "failed"
    if seen.view.get("status") != status:
        yield f"the request's row says {seen.view.get('status')}, not {status}"
    attempts = [attempt["model"] for attempt in seen.view.get("attempts", [])]
    if attempts != [seen.models[position] for position in seen.called]:
        yield f"attempts {attempts} are not the {len(seen.calls)} calls that the provider saw"


def _misbilled(scenario: Scenario, seen: Evidence, prices: Sequence[Prices]) -> Iterator[str]:
    """Costs agree in the answer, the row and the provider's count; a failed call costs where it produced something."""
    attempts = seen.view.get("attempts", [])
    total = math.fsum(attempt["costUsd"] or 0.0 for attempt in attempts)
    said = [("row", seen.view.get("costUsd"))] + ([("answer", seen.described.get("costUsd"))] if seen.ended else [])
    for where, cost in said:
        if cost is None or not math.isclose(cost, total, rel_tol=1e-9, abs_tol=1e-15):
            yield f"the {where} says {cost} USD, its attempts cost {total:.3g}"
    for attempt, call, position, expected in zip(attempts, seen.calls, seen.called, scenario.calls, strict=False):
        counted = prices[position].cost_usd(call)
        if not _plausible(attempt, counted, produced=expected.produced):
            yield f"{attempt['model']} ({attempt['errorType']}) cost {attempt['costUsd']}, counted {counted:.3g} USD"


def _plausible(attempt: Mapping[str, Any], counted_usd: float, *, produced: bool) -> bool:
    cost = attempt["costUsd"]
    if cost is None:
        return False
    if attempt["status"] == "ok":
        return math.isclose(cost, counted_usd, rel_tol=1e-9)
    if not produced:
        return bool(cost == 0.0)
    return bool(counted_usd / ESTIMATE_FACTOR <= cost <= counted_usd * ESTIMATE_FACTOR)


def _missed(scenario: Scenario, seen: Evidence) -> Iterator[str]:
    """What was possible: the answer, or exactly the right error, by exactly the right calls."""
    if scenario.error is None and not seen.ended:
        yield f"no answer: {seen.status} {seen.error.get('code')}"
    if scenario.error is not None and (seen.status, seen.error.get("code")) != scenario.error:
        yield f"{seen.status} {seen.error.get('code')} instead of {scenario.error[0]} {scenario.error[1]}"
    if scenario.says not in str(seen.error.get("message", "")):
        yield f"the error does not give the provider's reason ({scenario.says})"
    attempts = [(attempt["model"], attempt["errorType"]) for attempt in seen.view.get("attempts", [])]
    if attempts != (wanted := [(seen.models[call.model], call.error) for call in scenario.calls]):
        yield f"attempts {attempts} instead of {wanted}"
