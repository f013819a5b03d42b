"""`modelpilot bench jobs`: how fast the batch jobs are, what memory they take, and how both grow with the rows."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.installation import Installation, fresh_installation
from bench.jobs import past
from bench.jobs.runs import JobFailed, api_session, measure_rescoring, rate, run_job
from bench.report import Progress, print_report, table
from infra.db.engine import Database
from infra.db.metrics.export import ExportLedger
from infra.temporal.client import connect
from infra.warehouse.parquet import ParquetExporter
from infra.warehouse.sink import FileSink
from modelpilot import names
from workflows.schedules import aggregation, refits

_COLUMNS = ("job", "rows", "seconds", "rows/s", "memory MB (before → peak)", "more")


@dataclass(frozen=True, slots=True)
class JobsOptions:
    """`rows` requests in one hour, and `rescore_rows` answers to score again; a tenth of each is measured first, for
    the growth."""

    rows: int = 1_000_000
    rescore_rows: int = 100_000


async def bench_jobs(options: JobsOptions, progress: Progress) -> dict[str, Any]:
    """Start an installation, measure each job on both sizes, stop it; the results as JSON.

    Raises StackError, DependencyUnavailable, JobFailed.
    """
    about = machine.about("jobs", options)
    async with fresh_installation(progress) as installation:
        await _pause_schedules(installation)
        sizes = [await _measure(installation, rows, progress) for rows in _sizes(options.rows)]
        # Behind the others, which empty the tables: it works among what they left.
        sizes += [
            {"rows": rows, "rescoring": await measure_rescoring(installation, rows, progress)}
            for rows in _sizes(options.rescore_rows)
        ]
    return {**about, "results": sizes, "growth": _growth(sizes)}


def show_jobs(results: Mapping[str, Any]) -> None:
    """Print a line per job and size, and how the time grows."""
    rows = [
        (job, f"{size['rows']:,}", f"{found['seconds']:.1f}", f"{found['rowsPerS']:,.0f}", *_more(found))
        for size in results["results"]
        for job, found in size.items()
        if job != "rows"
    ]
    growth = ", ".join(f"{job} {factor:.2f}" for job, factor in results["growth"].items())
    print_report(
        table("Batch jobs", _COLUMNS, rows, texts=("job", "more")),
        f"Seconds per row at the large size by the small one (1 is linear): {growth}",
    )


async def _pause_schedules(installation: Installation) -> None:
    client = await connect(installation.settings, installation.keyring, "bench")
    for named in (aggregation(), refits()):
        await client.get_schedule_handle(named.id).pause(note="bench jobs")
    # One that began before the pause would share the first measurement.
    query = f"WorkflowType = '{names.AGGREGATE_WORKFLOW}' AND ExecutionStatus = 'Running'"
    async for found in client.list_workflows(query):
        await client.get_workflow_handle(found.id).result()


async def _measure(installation: Installation, rows: int, progress: Progress) -> dict[str, Any]:
    url = str(installation.settings.database_url)
    progress(f"{rows:,} rows: filling")
    await asyncio.to_thread(past.fill, url, rows, past.past_hour())
    progress(f"{rows:,} rows: aggregating")
    aggregated = await _aggregate(installation, rows, url)
    progress(f"{rows:,} rows: reading a summary")
    aggregated["summaryMs"] = await _summary_ms(installation)
    progress(f"{rows:,} rows: exporting")
    exported = await _export(url, rows, installation.directory)
    return {"rows": rows, "aggregation": aggregated, "export": exported}


async def _aggregate(installation: Installation, rows: int, url: str) -> dict[str, Any]:
    job, took = await run_job(installation, "/api/jobs/aggregate", rows)
    raw, hourly, groups = await asyncio.to_thread(past.sums, url)
    if job.get("status") != "completed" or raw != hourly or raw != rows:
        raise JobFailed(f"{job.get('status')}: {hourly:,} of {raw:,} requests are in the hourly metrics")
    sql_s = await asyncio.to_thread(past.sql_ms, url) / 1_000.0
    return {**took, "sqlSeconds": round(sql_s, 3), "groups": groups}


async def _summary_ms(installation: Installation) -> float:
    async with api_session(installation) as session:
        began = time.perf_counter()
        async with session.get("/api/analytics/summary") as answer:
            answer.raise_for_status()
            await answer.read()
    return round((time.perf_counter() - began) * 1_000.0, 1)


async def _export(url: str, rows: int, directory: Path) -> dict[str, Any]:
    target = directory / f"export-{rows}"
    began, written = time.perf_counter(), 0
    before = machine.resident_mb(os.getpid())
    machine.forget_peak(os.getpid())
    async with Database(url) as database:
        exporter = ParquetExporter(ExportLedger(database), FileSink(str(target), directory / "scratch"))
        while (file := await exporter.export_next(lambda _: None)) is not None:
            written += file
    seconds = time.perf_counter() - began
    if written != rows:
        raise JobFailed(f"{written:,} of {rows:,} requests were exported")
    size = sum(path.stat().st_size for path in target.rglob("*.parquet"))
    memory = {"exporterMbBefore": before, "exporterMbPeak": machine.peak_mb(os.getpid())}
    return {**rate(rows, seconds), **memory, "megabytes": round(size / 1e6, 1)}


def _sizes(rows: int) -> tuple[int, int]:
    return max(rows // 10, 1), rows


def _growth(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds per row at the large size by those at the small one, of each job: 1 is linear."""
    growth: dict[str, float] = {}
    for job in ("aggregation", "export", "rescoring"):
        small, large = (size[job]["seconds"] / size["rows"] for size in sizes if job in size)
        growth[job] = round(large / small, 3)
    return growth


def _more(found: Mapping[str, Any]) -> tuple[str, str]:
    who = "exporter" if "exporterMbPeak" in found else "worker"
    before, peak = found.get(f"{who}MbBefore"), found.get(f"{who}MbPeak")
    memory = "" if before is None or peak is None else f"{before:.0f} → {peak:.0f}"
    details = {"sqlSeconds": "s in SQL", "summaryMs": "ms for a summary", "megabytes": "MB of files"}
    return memory, ", ".join(f"{found[name]:g} {text}" for name, text in details.items() if name in found)
