"""`modelpilot bench faults`: sixteen ways in which a provider fails, and what a client notices of each.

One of them takes its time: a model that fails, stays away for a while and comes back (`Flapping`), while many requests
are sent, each of which has to be served.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import machine
from bench.faults.runs import FaultLab, Result, open_lab_session, prices, until
from bench.faults.scenarios import ANSWER_TOKENS, FAULTS, FLAPPING, SCENARIOS, Scenario
from bench.faults.verdicts import Answered, Judgement, worst
from bench.gateway.targets import BadAnswer
from bench.installation import fresh_installation
from bench.report import Progress, Row, print_report, table
from modelpilot.providers.breaker import BreakerRules

# The phases of `Flapping`: healthy, failing until the breaker opens, open, probed in vain, mended, closed again.

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


# Narrower, and a call would be broken across lines.
LEAST_WIDTH = 152
_COLUMNS = ("fault", "verdict", "what happens", "the client gets", "calls the provider saw", "s")
Run = dict[str, Any]


async def bench_faults(progress: Progress) -> dict[str, Any]:
    """Start an installation, play every fault, stop it; the results as JSON.

    Raises StackError and BadAnswer where the installation cannot be used at all.
    """
    about = machine.about("faults")
    async with fresh_installation(progress) as installation, open_lab_session(installation.admin_key) as session:
        lab = FaultLab(session, installation.settings.api_url, str(installation.settings.simulator_url))
        runs = [(fault, run) for fault in FAULTS for run in await _runs(lab, fault, progress)]
    return {**about, **summarized(runs)}


def summarized(runs: Sequence[tuple[str, Run]]) -> dict[str, Any]:
    """The verdict on each of the sixteen faults is the worst of its runs; a fault without a run has failed."""
    faults = []
    for fault in FAULTS:
        mine = [run for name, run in runs if name == fault]
        faults.append({"fault": fault, "verdict": worst([run["verdict"] for run in mine]), "runs": mine})
    return {"passed": sum(fault["verdict"] == "pass" for fault in faults), "of": len(faults), "faults": faults}


def all_passed(results: Mapping[str, Any]) -> bool:
    """Whether every fault is at pass."""
    return bool(results["passed"] == results["of"])


def scenarios_of(fault: str) -> list[Scenario]:
    """The scenarios of one fault."""
    return [scenario for scenario in SCENARIOS if scenario.fault == fault]


def show_faults(results: Mapping[str, Any]) -> None:
    """Print one section per fault with a line per run, then why whatever did not pass did not."""
    reasons = [
        f"{fault['fault']}, {run['name']}: {run['verdict']}: {reason}"
        for fault in results["faults"]
        for run in fault["runs"]
        for reason in run["reasons"]
    ]
    print_report(
        table(None, _COLUMNS, *map(_rows, results["faults"]), texts=_COLUMNS[:-1]),
        *reasons,
        f"{results['passed']} of {results['of']} faults at pass",
        least_width=LEAST_WIDTH,
    )


def run_json(result: Result) -> Run:
    """One scenario as JSON."""
    seen, scenario = result.seen, result.scenario
    return {
        **_verdict(scenario.name, result.judgement),
        "status": seen.status,
        "client": _client(result),
        "answeredBy": scenario.models[seen.called[-1]] if seen.ended and seen.called else None,
        "providerCalls": list(_calls(result)),
        "costUsd": seen.view.get("costUsd"),
        "seconds": round(seen.seconds, 2),
    }


def flapping_json(seen: FlappingEvidence) -> Run:
    """The flapping model as JSON."""
    served = seen.requests - seen.unserved.total()
    return {
        **_verdict(FLAPPING, judge_flapping(seen)),
        "status": 200 if served == seen.requests else None,
        "client": f"{served} of {seen.requests} served",
        "answeredBy": "flappy" if seen.came_back else None,
        "providerCalls": [f"{seen.failing_calls} in {seen.failing_s:.0f} s of failing", f"breaker {seen.state}"],
        "costUsd": None,
        "seconds": round(seen.seconds, 2),
    }


def _verdict(name: str, judgement: Judgement) -> Run:
    return {"name": name, "verdict": judgement.verdict, "reasons": [*judgement.wrong, *judgement.missed]}


def _client(result: Result) -> str:
    """What the client got, in a few words."""
    seen, form = result.seen, "stream" if result.scenario.stream else "whole"
    if seen.ended:
        return f"{form}, {len(seen.text)} characters, {seen.finish}"
    return f"{form}, {seen.status} {seen.error.get('code')}" if seen.status else f"{form}, nothing"


def _calls(result: Result) -> Iterator[str]:
    """The calls that the simulator saw: model with its fault, the status it gave, and what the gateway made of it."""
    attempts = result.seen.view.get("attempts", [])
    for position, call in enumerate(result.seen.calls):
        error = attempts[position]["errorType"] if position < len(attempts) else "not recorded"
        status = "" if call["status"] is None else f"{call['status']} "
        yield f"{result.scenario.models[result.seen.called[position]]}: {status}{error or 'ok'}"


async def _runs(lab: FaultLab, fault: str, progress: Progress) -> list[Run]:
    progress(fault)
    if fault == FLAPPING:
        return [flapping_json(await Flapping(lab).run())]
    return [run_json(await lab.run(scenario)) for scenario in scenarios_of(fault)]


def _rows(fault: Mapping[str, Any]) -> Iterator[Row]:
    # The fault and its verdict stand on the first line only, also where there is no run at all.
    named = (fault["fault"], fault["verdict"])
    for run in fault["runs"] or [None]:
        yield *named, *_cells(run)
        named = ("", "")


def _cells(run: Mapping[str, Any] | None) -> tuple[str, ...]:
    if run is None:
        return ("was not tried", "", "", "")
    return (run["name"], run["client"], "\n".join(run["providerCalls"]), f"{run['seconds']:.1f}")
