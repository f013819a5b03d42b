"""`modelpilot bench routing`: predictions for recorded prompts, and how good they are."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from rich.console import Console
from rich.progress import Progress

from bench.online import OnlineOptions, bench_online, describe_online, summarize
from bench.routing import RecordedHistory, embed_prompts
from bench.routing_files import BadRecording, read_history, read_queries, write_predictions
from bench.routing_quality import describe, evaluate
from cli.bench_results import deliver


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
    exploration: Annotated[float, typer.Option(min=0.0, max=1.0, help="With --online: its share.")] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict quality and cost of every model for recorded prompts, with the product's own estimators.

    Either --history, --queries and --out, or --evaluate DIR, or --online with --history (which gives the catalogue its
    prices and blurred mean qualities) and --queries, both with outcomes (docs/benchmarks.md).
    Exit codes: 0 done, 1 a file could not be read or written, 2 wrong usage.
    """
    try:
        if online and evaluation is None and history is not None and queries is not None:
            _online(history, queries, OnlineOptions(orders=orders, exploration=exploration), out, as_json)
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
