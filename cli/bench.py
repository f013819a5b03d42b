"""`modelpilot bench …`: one subcommand per benchmark."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop

from bench.dashboard import DashboardOptions, all_in_time, bench_dashboard
from bench.dashboard_calls import CallFailed
from bench.dashboard_report import show_dashboard
from bench.decision import DecisionOptions, bench_decision
from bench.decision_report import show_decision
from bench.fault_report import show_faults
from bench.faults import all_passed, bench_faults
from bench.gateway import GatewayOptions, bench_gateway
from bench.job_report import show_jobs
from bench.job_runs import JobFailed
from bench.jobs import JobsOptions, bench_jobs
from bench.report import failed_calls, show
from bench.targets import BadAnswer
from cli.bench_results import deliver
from cli.bench_routing import routing
from infra.logs import configure_logging

T = TypeVar("T")
Number = TypeVar("Number", int, float)

_DEFAULTS = GatewayOptions()
_QUICK = replace(_DEFAULTS, rounds=2, requests=20, history=2_000, rest_s=0.0)
_LONGEST_ROUND = 100_000

app = typer.Typer(
    help="Run the benchmarks. Each starts what it needs by itself (docs/benchmarks.md).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Run the benchmarks. Each starts what it needs by itself (docs/benchmarks.md)."""


@app.command("gateway")
def gateway(
    rounds: Annotated[int | None, typer.Option(min=1, help=f"Interleaved rounds [{_DEFAULTS.rounds}].")] = None,
    requests: Annotated[
        int | None,
        typer.Option(min=1, max=_LONGEST_ROUND, help=f"Calls of each kind per round [{_DEFAULTS.requests}]."),
    ] = None,
    concurrency: Annotated[str, typer.Option(help="Clients at the same time; a list.")] = "1,16",
    upstream_ms: Annotated[str, typer.Option(help="Latencies of the simulated provider; a list.")] = "20,0",
    history: Annotated[int | None, typer.Option(min=1, help=f"Past prompts [{_DEFAULTS.history}].")] = None,
    quick: Annotated[bool, typer.Option(help="Few calls, little history: whether it runs, not how fast.")] = False,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure what the gateway adds to a direct call, and its durable rate beside no-op workflows.

    Exit codes: 0 measured, 1 it could not be measured or calls failed, 2 wrong usage.
    """
    base = _QUICK if quick else _DEFAULTS
    options = replace(
        base,
        rounds=rounds or base.rounds,
        requests=requests or base.requests,
        concurrency=_numbers("--concurrency", concurrency, int, 1),
        upstream_ms=_numbers("--upstream-ms", upstream_ms, float, 0),
        history=history or base.history,
    )
    results = _run(bench_gateway(options, _say))
    deliver(results, out, as_json, show)
    if failed_calls(results):
        raise typer.Exit(1)


@app.command("faults")
def faults(
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Play sixteen provider faults, and say of each whether it was survived: pass, safe or fail.

    Exit codes: 0 all at pass, 1 any other verdict or it could not be run, 2 wrong usage.
    """
    results = _run(bench_faults(_say))
    deliver(results, out, as_json, show_faults)
    if not all_passed(results):
        raise typer.Exit(1)


@app.command("jobs")
def jobs(
    rows: Annotated[int, typer.Option(min=10, help="Requests in the hour that is aggregated.")] = JobsOptions().rows,
    rescore_rows: Annotated[
        int, typer.Option(min=10, help="Answers that are scored again.")
    ] = JobsOptions().rescore_rows,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure the batch jobs: rows per second, memory, and how both grow from a tenth of the rows.

    Exit codes: 0 measured, 1 it could not be measured or figures were wrong, 2 wrong usage.
    """
    results = _run(bench_jobs(JobsOptions(rows, rescore_rows), _say))
    deliver(results, out, as_json, show_jobs)


@app.command("decision")
def decision(
    models: Annotated[int, typer.Option(min=1, max=500, help="Candidates.")] = DecisionOptions().models,
    history: Annotated[int, typer.Option(min=1, help="Past prompts in memory.")] = DecisionOptions().history,
    calls: Annotated[int, typer.Option(min=1, help="Calls of each step.")] = DecisionOptions().calls,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure what a decision costs, step by step, beside an empty decision. Starts no other process.

    Exit codes: 0 measured, 2 wrong usage.
    """
    deliver(_run(bench_decision(DecisionOptions(models, history, calls), _say)), out, as_json, show_decision)


@app.command("dashboard")
def dashboard(
    rows: Annotated[int, typer.Option(min=1_000, help="Requests in the database.")] = DashboardOptions().rows,
    days: Annotated[float, typer.Option(min=1.0, help="Over how many days.")] = DashboardOptions().days,
    rounds: Annotated[int, typer.Option(min=1, help="How often each callback is asked.")] = DashboardOptions().rounds,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure how long the server works for each page of the analytics site.

    Exit codes: 0 all in time, 1 some were not or it could not be measured, 2 wrong usage.
    """
    results = _run(bench_dashboard(DashboardOptions(rows, days, rounds), _say))
    deliver(results, out, as_json, show_dashboard)
    if not all_in_time(results):
        raise typer.Exit(1)


app.command("routing")(routing)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C and SIGTERM cancel the work, which then stops what it started."""
    configure_logging("warning")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_terminable(work))
    except (BadAnswer, CallFailed, JobFailed) as error:
        typer.echo(f"modelpilot: {error}", err=True)
    except asyncio.CancelledError:
        typer.echo("modelpilot: terminated", err=True)
    raise typer.Exit(1)


async def _terminable(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _say(text: str) -> None:
    typer.echo(f"bench: {text}", err=True)


def _numbers(option: str, text: str, convert: Callable[[str], Number], least: float) -> tuple[Number, ...]:
    try:
        numbers = tuple(convert(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(least <= number < _LONGEST_ROUND for number in numbers):
        raise typer.BadParameter(f"{option}: numbers from {least:g}, separated by commas, were expected")
    return numbers
