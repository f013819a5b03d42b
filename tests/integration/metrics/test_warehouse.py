"""The warehouse sink: every request row in exactly one Parquet file, whatever is late, repeated or killed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow.parquet
import pytest

from infra.db.engine import Database
from infra.db.metrics.aggregation import NOTE_STALE, PostgresAggregator
from infra.db.metrics.export import COLUMNS, DueFile, ExportLedger
from infra.db.requests.housekeeping import PostgresRetention
from infra.db.schema.requests import RequestRow
from infra.warehouse.parquet import ParquetExporter
from infra.warehouse.sink import FileSink
from tests.support.aggregation import HOUR, Requests, rows_of

HARD_TEXT = 'a,b "c"\r\n\\N \\. 👩‍👩‍👧 = \u202e'
SUMS = """SELECT count(*) AS n, count(DISTINCT request_id) AS ids, sum(cost_usd) AS cost_usd,
    sum(latency_ms) AS latency_ms,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens
FROM requests"""

BELONGINGS = (
    (
        "INSERT INTO feedback (user_id, request_id, api_key_id, source, router_id, model, score)"
        " VALUES (%s, %s, 'key_1', '', 'support', 'sim/small', 1.0)"
    ),
    (
        "INSERT INTO judgements (user_id, request_id, judge_model, rubric, job_user_id, job_id, status, calls,"
        " estimated_usd, cost_usd) VALUES (%s, %s, 'sim/large', '1', 'admin', 'job', 'done', 1, 0, 0)"
    ),
    (
        "INSERT INTO stored_texts (user_id, request_id, router_id, ciphertext, expires_at)"
        " VALUES (%s, %s, 'support', 'secret', now() + interval '1 day')"
    ),
)


class Killed(BaseException):
    """As a kill: nothing catches it."""


def unheard(rows: int) -> None:
    """No heartbeat to send."""


@dataclass
class Site:
    """A database, a directory, and what moves rows from one to the other."""

    url: str
    database: Database
    directory: Path
    requests: Requests

    async def export(self, ledger: ExportLedger | None = None) -> int:
        """Write all that is due; the number of files."""
        sink = FileSink(str(self.directory), self.directory.parent / "scratch")
        exporter = ParquetExporter(ledger or ExportLedger(self.database), sink)
        files = 0
        while await exporter.export_next(unheard) is not None:
            files += 1
        return files

    async def aggregate(self) -> None:
        """Compute all hours that are noted."""
        aggregator = PostgresAggregator(self.database)
        await aggregator.plan()
        for hour in await aggregator.next_hours(1_000):
            await aggregator.aggregate(hour)

    def read(self, query: str) -> list[dict[str, Any]]:
        """A query over the files as a warehouse loads them: `requests` is the table."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            files = connection.read_parquet(f"{self.directory}/**/*.parquet", hive_partitioning=True)
            files.create_view("requests")
            rows: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
            return rows

    async def as_if_exported_at(self, moment: datetime) -> None:
        """The exporter has run at that moment last, which no test can wait for."""
        await self.database.fetch_all("UPDATE metric_progress SET through = %s WHERE name = 'exported'", (moment,))

    def check_sums(self) -> None:
        """The files have the rows of the table, each once."""
        (raw,) = rows_of(self.url, SUMS)
        (exported,) = self.read(SUMS)
        assert exported == {name: pytest.approx(value) for name, value in raw.items()}
        assert exported["n"] == exported["ids"]


@pytest.fixture
async def site(migrated_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with Database(migrated_url) as database:
        requests = Requests(database)
        yield Site(migrated_url, database, tmp_path / "lake", requests)
        await requests.close()


async def test_every_column_arrives_as_it_is(site: Site) -> None:
    """All columns of a request with their types; nulls, empty texts, line ends and times survive."""
    at = HOUR + timedelta(minutes=3, microseconds=123_456)
    await site.requests.add(at, recorded=HOUR + timedelta(minutes=4), session_id=HARD_TEXT, tags={"t": HARD_TEXT})
    await site.requests.add(at, recorded=HOUR + timedelta(minutes=4), session_id="", router_id=None, cost_usd=None)
    assert await site.export() == 1
    (path,) = site.directory.rglob("*.parquet")
    assert str(path.relative_to(site.directory)) == "day=2026-03-02/hour=10/requests-20260302T10Z.parquet"
    assert set(pyarrow.parquet.read_schema(path).names) == set(COLUMNS) == {*RequestRow.model_fields, "total_tokens"}
    first, second = site.read("SELECT * FROM requests ORDER BY request_id")
    stored = rows_of(site.url, "SELECT * FROM requests ORDER BY request_id")
    for name in (
        "created_at",
        "completed_at",
        "recorded_at",
        "latency_ms",
        "success",
        "attempts",
        "session_id",
        "cost_usd",
    ):
        assert [first[name], second[name]] == [row[name] for row in stored], name
    assert first["session_id"] == HARD_TEXT
    assert (second["session_id"], second["router_id"], second["cost_usd"]) == ("", None, None)
    assert (first["total_tokens"], str(first["day"]), int(first["hour"])) == (46, "2026-03-02", 10)
    assert site.read("SELECT tags->>'t' AS t FROM requests ORDER BY request_id")[0]["t"] == HARD_TEXT


async def test_late_rows_get_files_of_their_own(site: Site) -> None:
    """Runs again write nothing twice; a row that comes hours later is in one more file of its own hour."""
    for hour in range(3):
        at = HOUR + timedelta(hours=hour)
        await site.requests.add(at, recorded=at + timedelta(seconds=2), count=4)
    assert await site.export() == 3
    site.check_sums()
    assert await site.export() == 0
    await site.requests.add(HOUR, recorded=HOUR + timedelta(hours=5), count=2)
    await site.as_if_exported_at(HOUR + timedelta(hours=4))
    assert await site.export() == 1
    site.check_sums()
    names = sorted(path.name for path in (site.directory / "day=2026-03-02/hour=10").iterdir())
    assert names == ["requests-20260302T10Z.parquet", "requests-20260302T15Z.parquet"]


async def test_an_hour_that_is_not_over_waits(site: Site) -> None:
    """What is recorded now may still be joined by more: its file would not be final."""
    await site.requests.add(datetime.now(UTC))
    assert await site.export() == 0


class KilledBefore(ExportLedger):
    """Dies between the file and its bookkeeping."""

    async def confirm(self, file: DueFile, requests: int, size: int) -> None:
        """Never returns."""
        raise Killed


class KilledWithin(ExportLedger):
    """Dies in the middle of a file."""

    async def rows(self, file: DueFile) -> AsyncIterator[bytes]:
        """The first row, and no more."""
        async for line in super().rows(file):
            yield line
            raise Killed


@pytest.mark.parametrize("dying", [KilledBefore, KilledWithin])
async def test_killed_between_steps(site: Site, dying: type[ExportLedger]) -> None:
    """A file without its bookkeeping is written again under its name; half a file never shows."""
    await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1), count=5)
    with pytest.raises(Killed):
        await site.export(dying(site.database))
    visible = list(site.directory.rglob("*.parquet"))
    assert len(visible) == (1 if dying is KilledBefore else 0)
    assert await site.export() == 1
    site.check_sums()
    assert not list(site.directory.rglob("*.tmp"))


async def test_what_a_killed_process_left_is_removed(site: Site) -> None:
    """An unfinished file of a process that is gone does not lie about for ever."""
    await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1))
    left = site.directory / "day=2026-03-02/hour=10/.requests-20260302T10Z.parquet.abcdef.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    await site.export()
    assert not left.exists()


async def test_a_revised_quality_rewrites_its_files(site: Site) -> None:
    """A row is exported once, but with its newest figures."""
    await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1), quality=0.9, count=2)
    await site.aggregate()
    await site.export()
    await site.database.fetch_all("UPDATE requests SET quality = 0.25")
    await site.database.fetch_all(NOTE_STALE, {"hours": [HOUR]})
    await site.aggregate()
    assert await site.export() == 1
    site.check_sums()
    assert site.read("SELECT DISTINCT quality FROM requests") == [{"quality": 0.25}]


async def test_an_object_store_gets_whole_files(site: Site) -> None:
    """Any fsspec URL: one put of the finished file, and nothing is left on this machine."""
    await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1), count=3)
    scratch = site.directory.parent / "scratch"
    sink = FileSink("memory://lake/requests", scratch)
    exporter = ParquetExporter(ExportLedger(site.database), sink)
    assert await exporter.export_next(unheard) == 3
    store = fsspec.filesystem("memory")
    (path,) = store.find("/lake/requests")
    with store.open(path) as file:
        assert pyarrow.parquet.read_table(file).num_rows == 3
    assert list(scratch.iterdir()) == []
    store.rm("/lake", recursive=True)


async def test_raw_rows_go_when_they_are_old_aggregated_and_exported(site: Site) -> None:
    """Retention waits for both; then rows and attempts go in batches, and aggregates and files stay."""
    await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1), count=5)
    fresh = await site.requests.add(datetime.now(UTC))
    retention = PostgresRetention(site.database, days=1, exports=True)
    await retention.close_hours()
    assert await retention.purge(10) == 0
    await site.aggregate()
    await retention.close_hours()
    assert await retention.purge(10) == 0
    await site.export()
    await retention.close_hours()
    assert [await retention.purge(3) for _ in range(3)] == [3, 2, 0]
    assert [row["request_id"] for row in rows_of(site.url, "SELECT request_id FROM requests")] == fresh
    assert rows_of(site.url, "SELECT count(*) AS n FROM attempts") == [{"n": 1}]
    assert rows_of(site.url, "SELECT sum(requests)::int AS n FROM hourly_metrics") == [{"n": 6}]
    assert site.read("SELECT count(*) AS n FROM requests") == [{"n": 5}]


async def test_what_belongs_to_a_request_goes_with_it(site: Site) -> None:
    """Nobody's words outlive the row that they are about; those on other rows, or of another tenant, stay."""
    (old,) = await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1))
    (fresh,) = await site.requests.add(datetime.now(UTC))
    for user, request_id in (("alice", old), ("alice", fresh), ("bob", old)):
        for statement in BELONGINGS:
            await site.database.fetch_all(statement, (user, request_id))
    await site.aggregate()
    retention = PostgresRetention(site.database, days=1, exports=False)
    await retention.close_hours()
    assert await retention.purge(10) == 1
    for table in ("feedback", "judgements", "stored_texts"):
        left = rows_of(site.url, f"SELECT user_id, request_id FROM {table} ORDER BY user_id")  # noqa: S608  (constants)
        assert [tuple(row.values()) for row in left] == [("alice", fresh), ("bob", old)], table
    assert rows_of(site.url, "SELECT DISTINCT request_id FROM attempts") == [{"request_id": fresh}]


async def test_a_closed_hour_is_final(site: Site) -> None:
    """A row that comes after its hour's raw rows were deleted is exported, but cannot undo the aggregate; it stays as
    long as any other row, since it is the ledger's."""
    await site.requests.add(HOUR, recorded=HOUR + timedelta(minutes=1), count=5)
    await site.aggregate()
    await site.export()
    retention = PostgresRetention(site.database, days=1, exports=True)
    await retention.close_hours()
    assert await retention.purge(10) == 5
    late = await site.requests.add(HOUR)
    report = await PostgresAggregator(site.database).plan()
    assert (report.pending, report.too_late) == (0, 1)
    await site.database.fetch_all(NOTE_STALE, {"hours": [HOUR]})
    await site.aggregate()
    assert rows_of(site.url, "SELECT requests FROM hourly_metrics") == [{"requests": 5}]
    assert await retention.purge(10) == 0
    earlier = datetime.now(UTC) - timedelta(hours=3)
    await site.database.fetch_all("UPDATE requests SET recorded_at = %s WHERE request_id = ANY (%s)", (earlier, late))
    await site.as_if_exported_at(HOUR + timedelta(hours=4))
    assert await site.export() == 1
    assert site.read("SELECT count(*) AS n FROM requests") == [{"n": 6}]
