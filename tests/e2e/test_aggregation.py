"""From routed requests to hourly metrics, analytics and files: a real gateway, a real worker, a triggered run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from psycopg.rows import dict_row

from infra.local.data_dir import DataDir
from tests.support.requests import ask, chat, put_model, put_router
from tests.support.world import World, eventually, wait_until

ROUTER = "aggregated"
# What is null for a good reason in a completed request that named its router.
MAY_BE_NULL = {"error_code", "error_status", "session_id", "end_user", "estimated", "erased_at"}


@contextmanager
def worker(world: World, **variables: str) -> Iterator[None]:
    """A maintenance worker that polls; it is killed at the end."""
    environment = {**world.environment, **{f"MODELPILOT_{name}": value for name, value in variables.items()}}
    ready = DataDir(Path(environment["MODELPILOT_DATA_DIR"])).worker_ready
    log = world.directory / "worker.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "cli", "worker"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the worker is not ready")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.wait()
        ready.unlink(missing_ok=True)


async def run_now(client: aiohttp.ClientSession) -> dict[str, Any]:
    """`POST /api/jobs/aggregate`, to its end."""
    async with client.post("/api/jobs/aggregate") as answer:
        assert answer.status == 202, await answer.text()
        started = await answer.json()
    assert started.keys() >= {"id", "status", "progress"}

    async def ended() -> dict[str, Any] | None:
        async with client.get(f"/api/jobs/{started['id']}") as answer:
            job: dict[str, Any] = await answer.json()
        return None if job["status"] == "running" else job

    job: dict[str, Any] = await eventually(ended, "the job did not end")
    return job


async def analytics(client: aiohttp.ClientSession, kind: str, **params: str) -> Any:
    """JSON of an analytics route."""
    async with client.get(f"/api/analytics/{kind}", params={"routerId": ROUTER, **params}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_triggered_run_has_the_hour_in_progress(world: World, client: aiohttp.ClientSession) -> None:
    """Requests just made are in the hourly metrics after one run, and in the totals before and after it alike."""
    await put_model(client, "sim/cheap", "small", carbonGPer1kTokens=0.5, qualityScore=0.5)
    await put_model(client, "sim/dear", "large", carbonGPer1kTokens=2.0, qualityScore=0.9, costPerOutputToken=1e-4)
    await put_router(client, ROUTER, ["sim/cheap", "sim/dear"], preferredModel="sim/dear")
    for number in range(4):
        status, _ = await ask(client, ROUTER, chat(f"Name {number} rivers"))
        assert status == 200

    async def recorded() -> bool:
        return len((await analytics(client, "requests"))["items"]) == 4

    await eventually(recorded, "the rows are not there")
    before = await analytics(client, "summary")
    with worker(world):
        job = await run_now(client)
    assert job["status"] == "completed", job
    assert job["progress"]["done"] == job["progress"]["total"] >= 1
    assert job["kind"] == "aggregate"
    assert job["createdAt"] < job["finishedAt"]
    hourly = (await analytics(client, "hourly"))["items"]
    assert sum(item["requests"] for item in hourly) == 4
    assert sum(item["totalCostUsd"] for item in hourly) == pytest.approx(before["totalCostUsd"])
    saved = {each["baseline"]: each for each in (await analytics(client, "summary"))["savings"]["baselines"]}
    assert saved["alwaysBest"]["requests"] == saved["alwaysPreferred"]["requests"] == 4
    assert saved["alwaysBest"]["savedCostUsd"] > 0
    assert saved["alwaysBest"]["savedCarbonG"] > 0


async def test_the_row_of_a_request_is_complete(world: World, client: aiohttp.ClientSession) -> None:
    """Every figure of the metrics row is there after an ordinary request; only its quality may become known later."""
    with psycopg.connect(world.database_url, row_factory=dict_row) as connection:
        row = connection.execute("SELECT * FROM requests WHERE router_id = %s LIMIT 1", [ROUTER]).fetchone()
    assert row is not None
    assert {name for name, value in row.items() if value is None and "quality" not in name} <= MAY_BE_NULL
    assert (row["user_id"], row["request_type"], row["success"], row["attempts"]) == ("admin", "chat", True, 1)
    assert row["carbon_g"] > 0


async def test_another_tenant_s_job_does_not_exist(world: World, client: aiohttp.ClientSession) -> None:
    """A job's id is worth nothing to others."""
    async with client.post("/api/keys", json={"userId": "somebody", "scopes": ["admin"]}) as answer:
        key = (await answer.json())["key"]
    async with client.post("/api/jobs/aggregate") as answer:
        job_id = (await answer.json())["id"]
    async with client.get(f"/api/jobs/{job_id}", headers={"authorization": f"Bearer {key}"}) as answer:
        assert answer.status == 404
    async with client.get("/api/jobs/aggregate-0000") as answer:
        assert answer.status == 404
