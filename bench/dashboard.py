"""`modelpilot bench dashboard`: how long the server works for each page of the analytics site.

Explain, replay and frontier run in the site's process, as they do when it is served, over this Postgres. There is no
Milvus: a prompt is embedded, but no neighbours are searched for. No router has a fitted predictor.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import dashboard_rows, machine
from bench.dashboard_calls import Visit, of_page, specs_of, timed
from dashboard import ids
from dashboard.app import create_app
from dashboard.config import DashboardConfig
from infra.crypto.secrets import Argon2Hasher
from infra.db.management.site_users import PostgresSiteAccess
from infra.db.metrics.reading import SyncPool
from infra.db.migrate import upgrade
from infra.local.postgres import PostgresPlan, postgres_service
from infra.local.service import bring_up
from infra.settings import load_settings
from processes.dashboard import readers
from processes.workbench import open_workbench

Progress = Callable[[str], None]

GOAL_MS, OVERVIEW_GOAL_MS = 2_000.0, 500.0
_GRID = {"startRow": 0, "endRow": 100, "sortModel": []}
# Never called: decisions only ask whether there is one.
_SIMULATOR_URL = "http://127.0.0.1:9"
_SORTED = {**_GRID, "sortModel": [{"colId": "latency_ms", "sort": "desc"}]}


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """`rows` requests over the last `days`; every callback is asked `rounds` times."""

    rows: int = 1_000_000
    days: float = 30.0
    rounds: int = 5


async def bench_dashboard(options: DashboardOptions, progress: Progress) -> dict[str, Any]:
    """Start a Postgres, fill it, ask every page, stop it; the results as JSON.

    Raises ServiceFailed, DependencyUnavailable, CallFailed.
    """
    about = machine.about("dashboard")
    with tempfile.TemporaryDirectory(prefix="modelpilot-bench-") as made:
        async with _running_postgres(Path(made)) as url:
            progress(f"filling in {options.rows:,} requests")
            began = time.perf_counter()
            await asyncio.to_thread(upgrade, url)
            await dashboard_rows.fill(url, options.rows, options.days)
            filled_s = round(time.perf_counter() - began, 1)
            results = await asyncio.to_thread(_measure, url, options, progress)
    sizes = {"rows": options.rows, "days": options.days, "rounds": options.rounds}
    return {**about, "options": sizes, "fillSeconds": filled_s, "results": results}


def visits() -> Iterator[Visit]:
    """Every page with what makes it work hardest."""
    for days in ("24h", "30d"):
        yield Visit(f"overview, {days}", "overview", f"?range={days}", {}, OVERVIEW_GOAL_MS)
    yield from _visits_of_requests()
    for days in ("24h", "30d"):
        yield Visit(f"models & providers, {days}", "models", f"?range={days}", {}, GOAL_MS)
    yield from _visits_of_routers()
    yield Visit("jobs", "jobs", "", {"jobs-csv": 1}, GOAL_MS)


def _visits_of_requests() -> Iterator[Visit]:
    for said in (
        "range=30d&metric=requests&by=model",
        "range=30d&metric=cost&by=router&bucket=hour&model=sim/model-3",
        "range=30d&metric=p95&by=model",
        "range=30d&metric=p99&by=none&bucket=day",
        "range=30d&metric=requests&by=type",
        "range=30d&metric=p95&by=type",
        "range=24h&metric=p95&by=model&bucket=5min",
        "range=30d&metric=quality&by=provider&as=tenant-1",
    ):
        yield Visit(f"explore, {said}", "explore", f"?{said}", {"explore-csv": 1}, GOAL_MS)
    for said, rows in (
        ("range=30d", _GRID),
        ("range=30d", _SORTED),
        ("range=30d&as=tenant-1&status=failed", _GRID),
        ("range=30d&model=sim/model-3&type=chat&fallback=yes", _SORTED),
        ("range=30d&model=sim/model-3&type=chat&fallback=yes", _GRID),
        ("range=30d&model=gone", _GRID),
        ("range=30d&requestId=bench-77", _GRID),
    ):
        label = f"requests, {said}{', by latency' if rows is _SORTED else ''}"
        yield Visit(label, "requests", f"?{said}", {"requests-grid": rows, "requests-csv": 1}, GOAL_MS)
    yield Visit("one request", "request", "?id=bench-100", {}, GOAL_MS)


def _visits_of_routers() -> Iterator[Visit]:
    which = "router=router-1&owner=tenant-1"
    yield Visit("routers, 30d", "routers", "?range=30d", {"routers-csv": 1}, GOAL_MS)
    asked = {ids.EXPLAIN_ASK: 1, ids.EXPLAIN_PROMPT: "Why is the sky blue? " * 100, ids.EXPLAIN_NEEDS: []}
    yield Visit("one router", "router", "?id=router-1&owner=tenant-1&v=1", asked, GOAL_MS)
    for said in (
        f"range=30d&{which}",
        f"range=30d&{which}&w=60,10,20,10&models=sim/model-1,sim/model-5&explore=20&limits=own&maxLatency=1500",
    ):
        yield Visit(f"what-if, {said}", "what-if", f"?{said}", {"what-if-csv": 1}, GOAL_MS)
    yield Visit("frontier, 30d", "frontier", f"?range=30d&{which}", {"frontier-csv": 1}, GOAL_MS)


def summarized(label: str, callbacks: dict[str, dict[str, Any]], goal_ms: float) -> dict[str, Any]:
    """One visit: its slowest callback decides."""
    worst_ms = max(found["maxMs"] for found in callbacks.values())
    return {"page": label, "goalMs": goal_ms, "worstMs": worst_ms, "ok": worst_ms <= goal_ms, "callbacks": callbacks}


def all_in_time(results: dict[str, Any]) -> bool:
    """Whether every page kept its goal."""
    return all(page["ok"] for page in results["results"])


def _measure(url: str, options: DashboardOptions, progress: Progress) -> list[dict[str, Any]]:
    settings = load_settings({"MODELPILOT_DATABASE_URL": url, "MODELPILOT_SIMULATOR_URL": _SIMULATOR_URL})
    with (
        closing(SyncPool(url)) as reading,
        closing(SyncPool(url, read_only=False)) as writing,
        open_workbench(settings, url) as workbench,
    ):
        known = readers(reading, workbench)
        app = create_app(known, PostgresSiteAccess(writing), Argon2Hasher(), DashboardConfig())
        client, found = app.server.test_client(), []
        specs = specs_of(client)
        for visit in visits():
            progress(visit.label)
            asked = of_page(specs, visit)
            callbacks = {name: timed(client, body, options.rounds) for name, body in asked}
            found.append(summarized(visit.label, callbacks, visit.goal_ms))
    return found


@asynccontextmanager
async def _running_postgres(directory: Path) -> AsyncIterator[str]:
    plan = PostgresPlan(directory / "postgres", directory / "postgres.log")
    child = await bring_up(postgres_service(plan))
    try:
        yield plan.url()
    finally:
        await child.stop()
