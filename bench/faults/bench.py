"""`modelpilot bench faults`: sixteen ways in which a provider fails, and what a client notices of each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import machine
from bench.faults.flapping import Flapping, FlappingEvidence, judge_flapping
from bench.faults.runs import FaultLab, Result, open_lab_session
from bench.faults.scenarios import FAULTS, FLAPPING, SCENARIOS, Scenario
from bench.faults.verdicts import Judgement, worst
from bench.installation import fresh_installation
from bench.report import Progress, Row, print_report, table

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
