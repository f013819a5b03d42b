"""Running one job of an installation to its end, and what that took."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from bench import processes
from bench.installation import Installation

_ASK_EVERY_S = 0.05
_LONGEST_S = 3_600.0


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
    worker = processes.find("worker", installation.settings.data_dir)
    before = processes.resident_mb(worker)
    processes.forget_peak(worker)
    began = time.perf_counter()
    job = await _ended(installation, path, body)
    took = rate(rows, time.perf_counter() - began)
    return job, {**took, "workerMbBefore": before, "workerMbPeak": processes.peak_mb(worker)}


def rate(rows: int, seconds: float) -> dict[str, Any]:
    """How long so many rows took, and how many that is per second."""
    return {"seconds": round(seconds, 3), "rowsPerS": round(rows / seconds, 1)}


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
