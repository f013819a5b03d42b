"""kill -9 of the maintenance worker in the middle of an aggregation and of an export: sums agree, files have each row
once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from temporalio.client import Client

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.temporal.codec import data_converter
from infra.temporal.jobs import TemporalJobs
from modelpilot.metrics.jobs import Job
from tests.support.aggregation import HOUR, Requests, rows_of
from tests.support.installation import environment, worker
from tests.support.world import KEYRING, eventually, wait_until

HOURS, ROWS = 40, 3
RAW = """SELECT count(*)::int AS requests, sum(cost_usd::numeric) AS cost_usd, sum(latency_ms) AS latency_ms
FROM requests"""
HOURLY = """SELECT sum(requests)::int AS requests, sum(total_cost_usd) AS cost_usd, sum(total_latency_ms) AS latency_ms
FROM hourly_metrics"""
BLOCKED = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND relation = 'hourly_baselines'::regclass"


@dataclass
class Site:
    """A database with `HOURS` hours of requests, and what a worker over it needs."""

    url: str
    sink: Path
    requests: Requests
    jobs: TemporalJobs
    environment: dict[str, str]

    async def begin(self) -> Job:
        """Trigger a run."""
        return await self.jobs.start_aggregation("alice")

    async def run(self) -> None:
        """Trigger a run and wait for its end."""
        job = await self.begin()

        async def ended() -> Job | None:
            found = await self.jobs.find("alice", job.id)
            return None if found.status == "running" else found

        found: Job = await eventually(ended, "the run did not end")
        assert found.status == "completed"

    def check_sums(self) -> None:
        """The hourly rows say what the raw rows say."""
        (raw,), (hourly,) = rows_of(self.url, RAW), rows_of(self.url, HOURLY)
        assert hourly == raw | {"latency_ms": pytest.approx(raw["latency_ms"])}

    def files(self) -> list[Path]:
        """The files that a warehouse would see."""
        return list(self.sink.rglob("*.parquet"))

    def exported(self) -> list[str]:
        """The request ids in all files, as DuckDB reads them."""
        query = f"SELECT request_id FROM read_parquet('{self.sink}/**/*.parquet') ORDER BY request_id"  # noqa: S608
        with duckdb.connect() as connection:
            return [row[0] for row in connection.sql(query).fetchall()]

    def stored(self) -> list[str]:
        """The request ids in the table."""
        return [row["request_id"] for row in rows_of(self.url, "SELECT request_id FROM requests ORDER BY request_id")]


@pytest.fixture
async def site(tmp_path: Path, migrated_url: str, maintained_temporal: str, milvus_uri: str) -> AsyncIterator[Site]:
    sink = tmp_path / "lake"
    told: dict[str, Any] = {"EXPORT_URL": str(sink), "REQUEST_RETENTION_DAYS": "36500"}
    client = await Client.connect(maintained_temporal, data_converter=data_converter(Keyring([KEYRING])))
    async with Database(migrated_url) as database:
        requests = Requests(database)
        for hour in range(HOURS):
            at = HOUR + timedelta(hours=hour)
            await requests.add(at, recorded=at + timedelta(minutes=1), count=ROWS)
        variables = environment(tmp_path, migrated_url, maintained_temporal, milvus_uri, **told)
        yield Site(migrated_url, sink, requests, TemporalJobs(client), variables)
        await requests.close()


async def test_killed_while_it_aggregates(site: Site) -> None:
    """What one transaction of a killed worker had computed is gone with it; the next run computes it whole, and what
    was late by then, too."""
    with psycopg.connect(site.url) as blocker, worker(site.environment, "first") as first:
        blocker.execute("LOCK TABLE hourly_baselines IN EXCLUSIVE MODE")
        await site.begin()
        wait_until(lambda: rows_of(site.url, BLOCKED) == [{"n": 1}], "no hour is half computed")
        first.kill()
        first.wait()
    assert rows_of(site.url, "SELECT count(*) AS n FROM hourly_metrics") == [{"n": 0}]
    await site.requests.add(HOUR, count=ROWS)
    with worker(site.environment, "second"):
        await site.run()
    site.check_sums()


async def test_killed_while_it_exports(site: Site) -> None:
    """The files of a killed worker and those of the next one hold each row once, and no half file stays."""
    with worker(site.environment, "first") as first:
        await site.begin()
        wait_until(lambda: len(site.files()) >= 2, "nothing is exported")
        first.kill()
        first.wait()
    assert 2 <= len(site.files()) < HOURS
    with worker(site.environment, "second"):
        await site.run()
    site.check_sums()
    assert len(site.files()) == HOURS
    assert site.exported() == site.stored()
    assert not list(site.sink.rglob("*.tmp"))
