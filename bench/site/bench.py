"""`modelpilot bench dashboard`: how long the server works for each page of the analytics site.

What a browser posts when a page opens is posted to the site in this process, through its WSGI interface: no network and
no browser take part. Explain, replay and frontier run in the site's process, as they do when it is served, over this
Postgres. There is no Milvus, so a prompt is embedded, but no neighbours are searched for. No router has a predictor.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from bench import machine
from bench.report import Progress, Row, print_report, table
from bench.site import past
from bench.statistics import percentile
from dashboard.app import create_app
from dashboard.config import DashboardConfig
from dashboard.pages import router_detail
from infra.crypto.secrets import Argon2Hasher
from infra.db.engine import SyncPool
from infra.db.management.site_users import PostgresSiteAccess
from infra.db.migrate import upgrade
from infra.local.postgres import PostgresPlan, postgres_service
from infra.local.service import bring_up
from infra.settings import load_settings
from processes.dashboard import site_reader
from processes.workbench import open_workbench

CALLBACKS = "/_dash-update-component"
GOAL_MS, OVERVIEW_GOAL_MS = 2_000.0, 500.0
# Titles of notices that stand in the place of an answer; one of these would be the quickest page of all.
REFUSALS = (
    "The database cannot be read", "This cannot be replayed", "No decision", "No router chosen", "There is no router",
    "No routers yet", "No prompt",
)  # fmt: skip
_COLUMNS = ("page", "callback", "p50 ms", "max ms", "kB", "goal ms", "")
_GRID = {"startRow": 0, "endRow": 100, "sortModel": []}
_SORTED = {**_GRID, "sortModel": [{"colId": "latency_ms", "sort": "desc"}]}
# Never called: decisions only ask whether there is one.
_SIMULATOR_URL = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class DashboardOptions:
    """`rows` requests over the last `days`; every callback is asked `rounds` times."""

    rows: int = 1_000_000
    days: float = 30.0
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Visit:
    """A page as somebody opens it: its frame's name, its query string, and what further inputs hold by id."""

    label: str
    frame: str
    search: str
    also: Mapping[str, Any]
    goal_ms: float


class CallFailed(Exception):
    """A callback that did not answer with data."""


async def bench_dashboard(options: DashboardOptions, progress: Progress) -> dict[str, Any]:
    """Start a Postgres, fill it, ask every page, stop it; the results as JSON.

    Raises ServiceFailed, DependencyUnavailable, CallFailed.
    """
    about = machine.about("dashboard", options)
    with tempfile.TemporaryDirectory(prefix="modelpilot-bench-") as made:
        async with _running_postgres(Path(made)) as url:
            progress(f"filling in {options.rows:,} requests")
            began = time.perf_counter()
            await asyncio.to_thread(upgrade, url)
            await past.fill(url, options.rows, options.days)
            filled_s = round(time.perf_counter() - began, 1)
            results = await asyncio.to_thread(_measure, url, options, progress)
    return {**about, "fillSeconds": filled_s, "results": results}


def visits() -> Iterator[Visit]:
    """Every page with what makes it work hardest."""
    for days in ("24h", "30d"):
        yield Visit(f"overview, {days}", "overview", f"?range={days}", {}, OVERVIEW_GOAL_MS)
    yield Visit("overview, no range", "overview", "", {}, OVERVIEW_GOAL_MS)
    # Keys, end users and purposes are not in the hourly sums.
    for by in ("router", "key", "user"):
        yield Visit(f"overview, 30d by {by}", "overview", f"?range=30d&by={by}", {"overview-csv": 1}, GOAL_MS)
    yield from _visits_of_requests()
    for days in ("24h", "30d"):
        yield Visit(f"models & providers, {days}", "models", f"?range={days}", {}, GOAL_MS)
    yield from _visits_of_routers()
    yield Visit("jobs", "jobs", "", {"jobs-csv": 1}, GOAL_MS)


def specs_of(client: FlaskClient) -> list[dict[str, Any]]:
    """Every callback that runs on the server, as the site itself describes them."""
    found: list[dict[str, Any]] = client.get("/_dash-dependencies").get_json()
    return [spec for spec in found if not spec["clientside_function"]]


def of_page(specs: Sequence[dict[str, Any]], visit: Visit) -> Iterator[tuple[str, dict[str, Any]]]:
    """The callbacks that read for a page, with a name for each. Of those that keep controls and URL in step, only one
    that runs when the page opens has something to read: What-if's, which sets its sliders as the router has them."""
    url = f"{visit.frame}-url"
    for spec in specs:
        reads = [given["id"] for kind in ("inputs", "state") for given in spec[kind]]
        output = spec["output"].strip(".").split("...")[0]
        name, _, duplicate = output.partition("@")
        if url in reads and (name != f"{url}.search" or (duplicate and not spec["prevent_initial_call"])):
            yield name, body_of(spec, {url: visit.search, **visit.also})


def body_of(spec: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a callback whose inputs hold `values` (by id); all others hold nothing."""
    names = spec["output"].strip(".").split("...")
    outputs: Any = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]
    if not spec["output"].startswith(".."):
        outputs = outputs[0]
    inputs, state = (
        [given | {"value": values.get(given["id"])} for given in spec[kind]] for kind in ("inputs", "state")
    )
    changed = [f"{given['id']}.{given['property']}" for given in inputs if given["id"] in values]
    return {"output": spec["output"], "outputs": outputs, "inputs": inputs, "state": state, "changedPropIds": changed}


def timed(client: FlaskClient, body: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Post it so many times: milliseconds and the size of the answer. Raises CallFailed."""
    took_ms, size = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        answer = client.post(CALLBACKS, json=body)
        took_ms.append((time.perf_counter() - began) * 1_000.0)
        size = len(answer.data)
        if answer.status_code not in (200, 204):
            raise CallFailed(f"{body['output']}: {answer.status_code}")
        if refusal := next((said for said in REFUSALS if said in answer.text), None):
            raise CallFailed(f"{body['output']}: {refusal}")
    return {
        "samples": len(took_ms),
        "p50Ms": round(percentile(took_ms, 50.0), 1),
        "maxMs": round(max(took_ms), 1),
        "kilobytes": round(size / 1e3, 1),
    }


def summarized(label: str, callbacks: dict[str, dict[str, Any]], goal_ms: float) -> dict[str, Any]:
    """One visit: its slowest callback decides."""
    worst_ms = max(found["maxMs"] for found in callbacks.values())
    return {"page": label, "goalMs": goal_ms, "worstMs": worst_ms, "ok": worst_ms <= goal_ms, "callbacks": callbacks}


def all_in_time(results: dict[str, Any]) -> bool:
    """Whether every page kept its goal."""
    return all(page["ok"] for page in results["results"])


def show_dashboard(results: Mapping[str, Any]) -> None:
    """Print a line per page and callback; the goal is that of the slowest."""
    options, pages = results["options"], results["results"]
    kept, rows = sum(page["ok"] for page in pages), itertools.chain(*map(_rows, pages))
    print_report(
        table("Analytics site, server time", _COLUMNS, rows, texts=("page", "callback", "")),
        f"{options['rows']:,} requests over {options['days']:g} days: {kept} of {len(pages)} in time",
        least_width=150,
    )


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
        "range=30d&metric=cost&by=tag.customer",
        "range=30d&metric=cost&by=user&bucket=hour&model=sim/model-3",
        "range=30d&metric=cost&by=model&tag=customer%3Dcustomer-3",
        "range=30d&metric=cost&by=key&as=tenant-1",
        "range=30d&metric=cost&by=session",
        "range=30d&metric=cost&by=tag.customer&user=user-7",
        "range=30d&metric=p95&by=tag.team",
        "range=30d&metric=p95&by=session",
    ):
        yield Visit(f"explore, {said}", "explore", f"?{said}", {"explore-csv": 1}, GOAL_MS)
    for said, rows in (
        ("range=30d", _GRID),
        ("range=30d", _SORTED),
        ("range=30d&as=tenant-1&status=failed", _GRID),
        ("range=30d&model=sim/model-3&type=chat&fallback=yes", _SORTED),
        ("range=30d&model=sim/model-3&type=chat&fallback=yes", _GRID),
        ("range=30d&model=gone", _GRID),
        ("range=30d&tag=customer%3Dcustomer-3", _GRID),
        ("range=30d&tag=customer%3Dcustomer-3%26team%3Dteam-1", _SORTED),
        ("range=30d&user=user-7&key=tenant-1-1", _GRID),
        ("range=30d&session=session-77", _GRID),
        ("range=30d&requestId=bench-77", _GRID),
    ):
        label = f"requests, {said}{', by latency' if rows is _SORTED else ''}"
        yield Visit(label, "requests", f"?{said}", {"requests-grid": rows, "requests-csv": 1}, GOAL_MS)
    yield Visit("one request", "request", "?id=bench-100", {}, GOAL_MS)


def _visits_of_routers() -> Iterator[Visit]:
    which = "router=router-1&owner=tenant-1"
    yield Visit("routers, 30d", "routers", "?range=30d", {"routers-csv": 1}, GOAL_MS)
    asked = {
        router_detail.EXPLAIN_ASK: 1,
        router_detail.EXPLAIN_PROMPT: "Why is the sky blue? " * 100,
        router_detail.EXPLAIN_NEEDS: [],
    }
    yield Visit("one router", "router", "?id=router-1&owner=tenant-1&v=1", asked, GOAL_MS)
    for said in (
        f"range=30d&{which}",
        f"range=30d&{which}&w=60,10,20,10&models=sim/model-1,sim/model-5&explore=20&limits=own&maxLatency=1500",
    ):
        yield Visit(f"what-if, {said}", "what-if", f"?{said}", {"what-if-csv": 1}, GOAL_MS)
    yield Visit("frontier, 30d", "frontier", f"?range=30d&{which}", {"frontier-csv": 1}, GOAL_MS)


def _measure(url: str, options: DashboardOptions, progress: Progress) -> list[dict[str, Any]]:
    settings = load_settings({"MODELPILOT_DATABASE_URL": url, "MODELPILOT_SIMULATOR_URL": _SIMULATOR_URL})
    with (
        closing(SyncPool(url)) as reading,
        closing(SyncPool(url, read_only=False)) as writing,
        open_workbench(settings, url) as workbench,
    ):
        access = PostgresSiteAccess(writing)
        app = create_app(site_reader(reading), workbench, access, Argon2Hasher(), DashboardConfig())
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


def _rows(page: Mapping[str, Any]) -> Iterator[Row]:
    named = page["page"]
    for name, found in page["callbacks"].items():
        verdict = "ok" if found["maxMs"] <= page["goalMs"] else "over"
        figures = (f"{found[figure]:,.0f}" for figure in ("p50Ms", "maxMs", "kilobytes"))
        yield named, name, *figures, f"{page['goalMs']:,.0f}", verdict
        named = ""
