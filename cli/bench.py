"""`modelpilot bench …`: one subcommand per benchmark."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import orjson
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress

from bench.faults.bench import all_passed, bench_faults, show_faults
from bench.gateway.bench import GatewayOptions, bench_gateway
from bench.gateway.results import failed_calls, show_gateway
from bench.gateway.soak import SoakOptions, bench_soak, show_soak
from bench.gateway.targets import BadAnswer
from bench.jobs.bench import JobsOptions, bench_jobs, show_jobs
from bench.jobs.runs import JobFailed
from bench.routing.decision import DecisionOptions, bench_decision, show_decision
from bench.routing.offline import (
    BadRecording,
    RecordedHistory,
    embed_prompts,
    read_history,
    read_queries,
    write_predictions,
)
from bench.routing.online import OnlineOptions, bench_online, describe_online, summarize
from bench.routing.quality import describe, evaluate
from bench.site.bench import CallFailed, DashboardOptions, all_in_time, bench_dashboard, show_dashboard
from infra.logs import configure_logging

T = TypeVar("T")


def deliver(results: T, out: Path | None, as_json: bool, show: Callable[[T], None]) -> None:
    """Write the results to `out` as JSON, where wanted, and print them: as JSON, or as `show` does. Raises OSError."""
    encoded = orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(encoded)
    if as_json:
        typer.echo(encoded, nl=False)
    else:
        show(results)


# `modelpilot bench routing`: predictions for recorded prompts, and how good they are.


def routing(
    history: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Recorded outcomes.")] = None,
    queries: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Prompts and model names.")] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Where to write the predictions.")] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option("--evaluate", exists=True, file_okay=False, help="Judge a folder with train, dev and pools."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Route --queries one by one, learning from chosen outcomes alone.")
    ] = False,
    orders: Annotated[int, typer.Option(min=1, max=100, help="With --online: orders of arrival.")] = 10,
    exploration: Annotated[float, typer.Option(min=0.0, max=1.0, help="With --online: its share.")] = 0.0,
    graded: Annotated[str, typer.Option(help="With --online: shares of graded answers; a list.")] = "0.1,0.5,1",
    outcomes: Annotated[
        bool, typer.Option("--outcomes", help="With --online: all outcomes of --history are known before.")
    ] = False,
    null_test: Annotated[
        bool, typer.Option("--null-test", help="With --online: every prompt has the features of another one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict quality and cost of every model for recorded prompts, with the product's own estimators.

    Either --history, --queries and --out, or --evaluate DIR, or --online with --history (which gives the catalogue its
    prices and blurred mean qualities, and with --outcomes all that it has) and --queries, both with outcomes
    (docs/benchmarks.md).
    Exit codes: 0 done, 1 a file could not be read or written, 2 wrong usage.
    """
    try:
        if online and evaluation is None and history is not None and queries is not None:
            shares = _numbers("--graded", graded, float, 0.0)
            options = OnlineOptions(
                graded_shares=shares,
                orders=orders,
                exploration=exploration,
                outcomes_known=outcomes,
                shuffled=null_test,
            )
            _online(history, queries, options, out, as_json)
        elif not online and evaluation is not None and history is queries is out is None:
            _evaluate(evaluation, as_json)
        elif not online and evaluation is None and history is not None and queries is not None and out is not None:
            _predict(history, queries, out, as_json)
        else:
            raise typer.BadParameter("--history, --queries and --out, or --evaluate alone, or --online with both files")
    except BadRecording as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")


def _predict(history: Path, queries: Path, out: Path, as_json: bool) -> None:
    known, asked = read_history(history), read_queries(queries)
    with _progress() as progress:
        embedding = progress.add_task("embedding prompts", total=len(known) + len(asked))

        def advance(count: int) -> None:
            progress.advance(embedding, count)

        prompts = [asyncio.run(embed_prompts([query.prompt for query in part], advance)) for part in (known, asked)]
        fitting = progress.add_task("fitting", total=1)
        recorded = RecordedHistory(known, prompts[0])
        progress.advance(fitting)
        expected = recorded.predict(prompts[1], [query.models for query in asked])
        watched = progress.track(expected, total=len(asked), description="predicting")
        write_predictions(out, ((query.query_id, made) for query, made in zip(asked, watched, strict=True)))
    report = recorded.fit.report
    if as_json:
        typer.echo(orjson.dumps({"queries": len(asked), "out": str(out), "fit": report}))
        return
    said = "refused: " + report.refused_because if report.refused_because else "accepted"
    typer.echo(f"{len(asked):,} predictions in {out}; fit of {report.rows:,} outcomes {said}")


def _evaluate(folder: Path, as_json: bool) -> None:
    def say(text: str) -> None:
        typer.echo(f"bench: {text}", err=True)

    results = asyncio.run(evaluate(folder, say))
    typer.echo(orjson.dumps(results, option=orjson.OPT_INDENT_2) if as_json else "\n".join(describe(results)))


def _online(history: Path, queries: Path, options: OnlineOptions, out: Path | None, as_json: bool) -> None:
    with _progress() as progress:
        running = progress.add_task("routing", total=options.runs)
        results = bench_online(history, queries, options, lambda: progress.advance(running))
    deliver(summarize(results), out, as_json, lambda found: typer.echo("\n".join(describe_online(found))))


@contextmanager
def _progress() -> Iterator[Progress]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield progress


def _fail(message: str) -> NoReturn:
    typer.echo(f"modelpilot: {message}", err=True)
    raise typer.Exit(1)


Number = TypeVar("Number", int, float)

_DEFAULTS = GatewayOptions()
_QUICK = replace(
    _DEFAULTS,
    rounds=2,
    requests=20,
    history=2_000,
    rest_s=0.0,
    idle_s=2.0,
    steady_s=5.0,
    long_requests=8,
    rates=(25.0, 50.0),
    rate_s=4.0,
)
_SOAK = SoakOptions()
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
    rates: Annotated[
        str | None, typer.Option(help="Requests per second, one run each; a list [25,50,100,200].")
    ] = None,
    rate_s: Annotated[
        float | None, typer.Option("--rate-seconds", min=0.1, help=f"How long each lasts [{_DEFAULTS.rate_s:g}].")
    ] = None,
    rate_upstream_ms: Annotated[
        float, typer.Option(min=0.0, help="Latency of the simulated provider meanwhile.")
    ] = _DEFAULTS.rate_upstream_ms,
    only: Annotated[Literal["calls", "rates"] | None, typer.Option(help="Leave out the other half.")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="Measure LiteLLM and Portkey beside it (pip, npm).")] = False,
    peers_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, resolve_path=True, help="Install the peers there, and keep them for the next time."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option(help="Few calls, little history: whether it runs, not how fast.")] = False,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure what the gateway adds to a direct call, what that costs each process, and what happens beyond its rate.

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
        rates=_numbers("--rates", rates, float, 0.1) if rates else base.rates,
        rate_s=rate_s or base.rate_s,
        rate_upstream_ms=rate_upstream_ms,
        only=only,
        peers=peers or peers_dir is not None,
    )
    results = _run(bench_gateway(options, peers_dir, _say))
    deliver(results, out, as_json, show_gateway)
    if failed_calls(results):
        raise typer.Exit(1)


@app.command("soak")
def soak(
    requests: Annotated[int, typer.Option(min=1, help="How many.")] = _SOAK.requests,
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="Clients at the same time.")] = _SOAK.clients,
    every: Annotated[int, typer.Option(min=1, help="Read the memory after so many.")] = _SOAK.every,
    history: Annotated[int, typer.Option(min=1, help="Past prompts.")] = _SOAK.history,
    rest_s: Annotated[float, typer.Option("--rest-seconds", min=0.0, help="Rest before the last look.")] = _SOAK.rest_s,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the results to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
) -> None:
    """Measure whether the memory of any process grows with the requests that it has served.

    Exit codes: 0 measured, 1 it could not be measured or calls failed, 2 wrong usage.
    """
    options = replace(_SOAK, requests=requests, clients=clients, every=every, history=history, rest_s=rest_s)
    results = _run(bench_soak(options, _say))
    deliver(results, out, as_json, show_soak)
    if results["errors"]:
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
