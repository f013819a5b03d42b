"""`modelpilot bench jobs`: how fast the batch jobs are, what memory they take, and how both grow with the rows."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from bench import job_rows, machine, processes
from bench.installation import Installation, running_installation
from bench.rescore import measure_rescoring
from infra.db.engine import Database
from infra.db.export import ExportLedger
from infra.temporal.client import connect
from infra.warehouse.exporter import ParquetExporter
from infra.warehouse.sink import FileSink
from modelpilot import names
from workflows.schedules import aggregation, refits

Progress = Callable[[str], None]

_ASK_EVERY_S = 0.05
_LONGEST_S = 1_800.0


@dataclass(frozen=True, slots=True)
class JobsOptions:
    """`rows` requests in one hour, and `rescore_rows` answers to score again; a tenth of each is measured first, for
    the growth."""

    rows: int = 1_000_000
    rescore_rows: int = 100_000


class JobFailed(Exception):
    """A job that did not complete, or whose figures are wrong."""


async def bench_jobs(options: JobsOptions, progress: Progress) -> dict[str, Any]:
    """Start an installation, measure each job on both sizes, stop it; the results as JSON.

    Raises StackError, DependencyUnavailable, JobFailed, RescoreFailed.
    """
    about = {"benchmark": "jobs", "startedAt": datetime.now(UTC).isoformat(timespec="seconds")}
    described = machine.describe()
    with tempfile.TemporaryDirectory(prefix="modelpilot-bench-") as made:
        directory = Path(made)
        progress("starting an installation")
        async with running_installation(directory) as installation:
            await _pause_schedules(installation)
            sizes = [await _measure(installation, rows, directory, progress) for rows in _sizes(options.rows)]
            # Behind the others, which empty the tables: it works among what they left.
            sizes += [
                {"rows": rows, "rescoring": await measure_rescoring(installation, rows, progress)}
                for rows in _sizes(options.rescore_rows)
            ]
            progress("stopping the installation")
    return {
        **about,
        "machine": described,
        "options": {"rows": options.rows, "rescoreRows": options.rescore_rows},
        "results": sizes,
        "growth": _growth(sizes),
    }


async def _pause_schedules(installation: Installation) -> None:
    client = await connect(installation.settings, installation.keyring, "bench")
    for named in (aggregation(), refits()):
        await client.get_schedule_handle(named.id).pause(note="bench jobs")
    # One that began before the pause would share the first measurement.
    query = f"WorkflowType = '{names.AGGREGATE_WORKFLOW}' AND ExecutionStatus = 'Running'"
    async for found in client.list_workflows(query):
        await client.get_workflow_handle(found.id).result()


async def _measure(installation: Installation, rows: int, directory: Path, progress: Progress) -> dict[str, Any]:
    url = str(installation.settings.database_url)
    progress(f"{rows:,} rows: filling")
    await asyncio.to_thread(job_rows.fill, url, rows, job_rows.past_hour())
    progress(f"{rows:,} rows: aggregating")
    aggregated = await _aggregate(installation, rows, url)
    progress(f"{rows:,} rows: reading a summary")
    aggregated["summaryMs"] = await _summary_ms(installation)
    progress(f"{rows:,} rows: exporting")
    exported = await _export(url, rows, directory)
    return {"rows": rows, "aggregation": aggregated, "export": exported}


async def _aggregate(installation: Installation, rows: int, url: str) -> dict[str, Any]:
    worker = processes.find("worker", installation.settings.data_dir)
    before = processes.resident_mb(worker)
    processes.forget_peak(worker)
    began = time.perf_counter()
    async with _session(installation) as session:
        async with session.post("/api/jobs/aggregate") as answer:
            job = await answer.json()
        while job["status"] == "running":
            if time.perf_counter() - began > _LONGEST_S:
                raise JobFailed(f"no end after {_LONGEST_S:.0f} s")
            await asyncio.sleep(_ASK_EVERY_S)
            async with session.get(f"/api/jobs/{job['id']}") as answer:
                job = await answer.json()
    seconds = time.perf_counter() - began
    raw, hourly, groups = await asyncio.to_thread(job_rows.sums, url)
    if job["status"] != "completed" or raw != hourly or raw != rows:
        raise JobFailed(f"{job['status']}: {hourly:,} of {raw:,} requests are in the hourly metrics")
    return {
        **_rate(rows, seconds),
        "sqlSeconds": round(await asyncio.to_thread(job_rows.sql_ms, url) / 1_000.0, 3),
        "groups": groups,
        "workerMbBefore": before,
        "workerMbPeak": processes.peak_mb(worker),
    }


async def _summary_ms(installation: Installation) -> float:
    async with _session(installation) as session:
        began = time.perf_counter()
        async with session.get("/api/analytics/summary") as answer:
            answer.raise_for_status()
            await answer.read()
    return round((time.perf_counter() - began) * 1_000.0, 1)


async def _export(url: str, rows: int, directory: Path) -> dict[str, Any]:
    target = directory / f"export-{rows}"
    began, written = time.perf_counter(), 0
    before = processes.resident_mb(os.getpid())
    processes.forget_peak(os.getpid())
    async with Database(url) as database:
        exporter = ParquetExporter(ExportLedger(database), FileSink(str(target), directory / "scratch"))
        while (file := await exporter.export_next(lambda _: None)) is not None:
            written += file
    seconds = time.perf_counter() - began
    if written != rows:
        raise JobFailed(f"{written:,} of {rows:,} requests were exported")
    size = sum(path.stat().st_size for path in target.rglob("*.parquet"))
    memory = {"exporterMbBefore": before, "exporterMbPeak": processes.peak_mb(os.getpid())}
    return {**_rate(rows, seconds), **memory, "megabytes": round(size / 1e6, 1)}


def _session(installation: Installation) -> aiohttp.ClientSession:
    headers = {"authorization": f"Bearer {installation.admin_key}"}
    return aiohttp.ClientSession(installation.settings.api_url, headers=headers)


def _rate(rows: int, seconds: float) -> dict[str, Any]:
    return {"seconds": round(seconds, 3), "rowsPerS": round(rows / seconds, 1)}


def _sizes(rows: int) -> tuple[int, int]:
    return max(rows // 10, 1), rows


def _growth(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds per row at the large size by those at the small one, of each job: 1 is linear."""
    growth: dict[str, float] = {}
    for job in ("aggregation", "export", "rescoring"):
        small, large = (size[job]["seconds"] / size["rows"] for size in sizes if job in size)
        growth[job] = round(large / small, 3)
    return growth
