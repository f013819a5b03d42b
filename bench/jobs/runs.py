"""Running one job of an installation to its end, and what that took; re-scoring with the rows that it needs."""

import asyncio
import time
from collections.abc import Mapping
from hashlib import md5
from typing import Any

import aiohttp
import numpy as np
import psycopg

from bench import machine
from bench.installation import Installation
from bench.processes import ProcessMeter
from bench.report import Progress
from infra.settings import Settings
from infra.vectors.embedders import EmbedderConfig, create_embedder
from infra.vectors.milvus import MilvusHistory
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.records import HistoryPoint, HistoryScope

USER, ROUTER, MODEL = "admin", "bench-rescore", "sim/small"
_GROUP_ROWS, _TRIES = 250, 10
_ASK_EVERY_S = 0.05
_LONGEST_S = 3_600.0
# Half of the rows have a check that passed, a fifth have feedback of one of a thousand people; all are due.
_FILL = """
INSERT INTO requests (user_id, request_id, router_id, api_key_id, config_version, created_at, completed_at, recorded_at,
    status, model, provider, latency_ms, overhead_ms, cost_usd, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens, success, finish_reason, request_type, checks_quality, quality_pending, attempts, fallback_used,
    degraded, propensity, explored, prompt_hash, decision, tags, stream)
SELECT %(user)s, 'rescore-' || n, %(router)s, 'key-1', 1, now() - interval '1 hour' + n * interval '1 ms',
    now() - interval '1 hour', now() - interval '1 hour', 'completed', %(model)s, 'simulator', 100, 2, 0.0001, 100, 50,
    0, 0, true, 'stop', 'chat', CASE WHEN n %% 2 = 0 THEN 1.0 END, true, 1, false, '{}', 1.0, false, md5(n::text),
    '{}', '{}', false
FROM generate_series(0, %(rows)s - 1) AS n
"""
_RATE = """
INSERT INTO feedback (user_id, request_id, api_key_id, source, router_id, model, score)
SELECT %(user)s, 'rescore-' || n, 'key-1', 'user-' || n %% 1000, %(router)s, %(model)s, n %% 3 / 2.0
FROM generate_series(0, %(rows)s - 1, 5) AS n
"""
_CLEAR = ("DELETE FROM requests WHERE router_id = %(router)s", "DELETE FROM feedback WHERE router_id = %(router)s")
_CHECK = """
SELECT count(*) FILTER (WHERE quality IS NOT NULL), count(*) FILTER (WHERE quality_pending) FROM requests
WHERE router_id = %(router)s
"""


class JobFailed(Exception):
    """A job that did not complete, or whose figures are wrong."""


def api_session(installation: Installation) -> aiohttp.ClientSession:
    """A client of the gateway with the admin key."""
    headers = {"authorization": f"Bearer {installation.admin_key}"}
    return aiohttp.ClientSession(installation.settings.api_url, headers=headers)


async def run_job(
    installation: Installation, path: str, rows: int, body: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job that `POST path` starts, at its end, and its figures: seconds, rows/s and the worker's memory.

    Raises JobFailed where it has no end.
    """
    worker = ProcessMeter(installation.pid).read()["worker"].pids[0]
    before = machine.resident_mb(worker)
    machine.forget_peak(worker)
    began = time.perf_counter()
    job = await _ended(installation, path, body)
    took = rate(rows, time.perf_counter() - began)
    return job, {**took, "workerMbBefore": before, "workerMbPeak": machine.peak_mb(worker)}


def rate(rows: int, seconds: float) -> dict[str, Any]:
    """How long so many rows took, and how many that is per second."""
    return {"seconds": round(seconds, 3), "rowsPerS": round(rows / seconds, 1)}


async def measure_rescoring(installation: Installation, rows: int, progress: Progress) -> dict[str, Any]:
    """Fill in `rows` rows with their points and re-score all of them; seconds, rows/s and the worker's memory.

    The worst case is measured: every row changes, so every row is written to Postgres and every point to Milvus.

    Raises JobFailed, DependencyUnavailable.
    """
    progress(f"{rows:,} rows: filling Postgres and Milvus")
    await asyncio.to_thread(_fill, str(installation.settings.database_url), rows)
    await _fill_points(installation.settings, rows)
    progress(f"{rows:,} rows: re-scoring")
    # By time and not by router: the router itself need not exist.
    job, took = await run_job(installation, "/api/jobs/rescore", rows, {"model": MODEL})
    _verify(str(installation.settings.database_url), rows, job)
    return took


async def _ended(installation: Installation, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    began = time.perf_counter()
    async with api_session(installation) as session:
        async with session.post(path, json=body) as answer:
            job: dict[str, Any] = await answer.json()
        while job.get("status") == "running":
            if time.perf_counter() - began > _LONGEST_S:
                raise JobFailed(f"no end after {_LONGEST_S:.0f} s")
            await asyncio.sleep(_ASK_EVERY_S)
            async with session.get(f"/api/jobs/{job['id']}") as answer:
                job = await answer.json()
    return job


def _fill(url: str, rows: int) -> None:
    given = {"user": USER, "router": ROUTER, "model": MODEL, "rows": rows}
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (*_CLEAR, _FILL, _RATE):
            connection.execute(statement, given)
        connection.execute("VACUUM ANALYZE requests")
        connection.execute("VACUUM ANALYZE feedback")


async def _fill_points(settings: Settings, rows: int) -> None:
    embedder = create_embedder(EmbedderConfig())
    history = MilvusHistory(
        str(settings.milvus_uri), embedder=embedder.name, dimension=embedder.dimension, group_rows=_GROUP_ROWS
    )
    draw, now = np.random.default_rng(1), time.time()
    try:
        for start in range(0, rows, _GROUP_ROWS):
            numbers = range(start, min(start + _GROUP_ROWS, rows))
            vectors = draw.normal(size=(len(numbers), embedder.dimension)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            points = [_point(number, vectors[number - start], now) for number in numbers]
            await _stored(history, points)
        await history.flush()
    finally:
        await history.close()
        await embedder.close()


async def _stored(history: MilvusHistory, points: list[HistoryPoint]) -> None:
    """Store a group; a busy machine may need more than one try, and a point stored twice stays one."""
    for left in reversed(range(_TRIES)):
        try:
            await asyncio.gather(*map(history.store, points))
        except DependencyUnavailable as error:
            if not left:
                raise
            await asyncio.sleep((error.retry_after_s or 0.0) + 1.0)
        else:
            return


def _point(number: int, vector: np.ndarray[Any, np.dtype[np.float32]], now: float) -> HistoryPoint:
    prompt = md5(str(number).encode(), usedforsecurity=False).hexdigest()
    return HistoryPoint(
        point_id=f"{prompt}/{MODEL}",
        scope=HistoryScope(USER, ROUTER),
        model=MODEL,
        request_id=f"rescore-{number}",
        embedding=vector,
        latency_ms=100.0,
        cost_usd=1e-4,
        quality=None,
        ttft_ms=None,
        input_tokens=100,
        output_tokens=50,
        request_type="chat",
        timestamp=now,
    )


def _verify(url: str, rows: int, job: dict[str, Any]) -> None:
    with psycopg.connect(url) as connection:
        found = connection.execute(_CHECK, {"router": ROUTER}).fetchone()
    wanted = sum(number % 2 == 0 or number % 5 == 0 for number in range(rows))
    if job.get("status") != "completed" or found != (wanted, 0):
        raise JobFailed(f"{job.get('status')}: {found} rows with a quality and still due, {(wanted, 0)} expected")
