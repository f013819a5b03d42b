"""The warehouse sink's side in Postgres: which files are due, and their rows.

A file holds the requests created in one hour and recorded in one hour. Once the second is over, the set of its rows
never changes, so a file can be written any number of times, under the same name, without a row twice or missing: a late
row is in the file of the hour in which it was recorded. Only figures of a row may change later (a revised quality):
then `revision` goes ahead of `exported_revision` again, and the whole file is written anew.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Float, Integer
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from infra.db.engine import Database
from infra.db.metrics.aggregation import OVERLAP_S, find_horizon
from infra.db.schema.requests import RequestRow

Kind = Literal["text", "json", "float", "int64", "int32", "bool", "time"]

# JSON is full of the usual one, and each would be doubled by Postgres and undone by the reader; this one is rare in any
# text, and never in JSON.
QUOTE = "\x01"

# COPY runs at tens of megabytes per second; a million rows with large decisions are gigabytes.
COPY_S = 1_800.0

_KINDS: tuple[tuple[type[TypeEngine[Any]], Kind], ...] = (
    (JSONB, "json"), (ARRAY, "json"), (BigInteger, "int64"), (Integer, "int32"), (Boolean, "bool"), (Float, "float"),
    (DateTime, "time"),
)  # fmt: skip


def _kind(column: TypeEngine[Any]) -> Kind:
    return next((kind for known, kind in _KINDS if isinstance(column, known)), "text")


def _columns() -> Mapping[str, Kind]:
    found = {column.name: _kind(column.type) for column in RequestRow.__table__.columns}  # type: ignore[attr-defined]
    return {**found, "total_tokens": "int64"}


# Every column of a request, so that a new one cannot be forgotten, and the sum that everybody would build.
COLUMNS: Mapping[str, Kind] = _columns()
_EXPRESSIONS = {"total_tokens": "input_tokens + output_tokens", "degraded": "to_json(degraded)::text"}
# Most of the time goes into writing JSON as text. As an expression that is done by parallel workers, too; as COPY's own
# output it would be done by one process.
_SELECTED = ", ".join(
    _EXPRESSIONS.get(name, f"{name}::text" if kind == "json" else name) for name, kind in COLUMNS.items()
)
_PARALLEL = "SET LOCAL max_parallel_workers_per_gather = 2; SET LOCAL parallel_tuple_cost = 0"

_ANNOUNCE = """
INSERT INTO exported_files (path, hour, recorded_hour, revision, exported_revision, requests, bytes)
SELECT to_char(hour AT TIME ZONE 'UTC', '"day="YYYY-MM-DD"/hour="HH24"/requests-"')
           || to_char(recorded_hour AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24"Z.parquet"'),
       hour, recorded_hour, 1, 0, 0, 0
FROM (
    SELECT DISTINCT date_trunc('hour', created_at, 'UTC') AS hour,
                    date_trunc('hour', recorded_at, 'UTC') AS recorded_hour
    FROM requests WHERE recorded_at >= %(through)s AND recorded_at < %(complete)s
) AS pairs
ON CONFLICT (path) DO NOTHING
"""
_COMPLETE = """
SELECT date_trunc('hour', %(horizon)s::timestamptz - make_interval(secs => %(overlap)s), 'UTC') AS complete
"""
_LOCK = "SELECT through FROM metric_progress WHERE name = 'exported' FOR UPDATE"
_ADVANCE = """
UPDATE metric_progress SET through = greatest(through, %(complete)s), updated_at = clock_timestamp()
WHERE name = 'exported'
"""
_DUE = """
SELECT path, hour, recorded_hour, revision FROM exported_files WHERE revision > exported_revision
ORDER BY hour, path LIMIT 1
"""
_ROWS = f"""
COPY (
    SELECT {_SELECTED} FROM requests
    WHERE created_at >= %(hour)s AND created_at < %(hour)s + interval '1 hour'
        AND recorded_at >= %(recorded)s AND recorded_at < %(recorded)s + interval '1 hour'
) TO STDOUT (FORMAT csv, QUOTE '{QUOTE}')
"""  # noqa: S608  (column names of our own table)
_CONFIRM = """
UPDATE exported_files SET exported_revision = greatest(exported_revision, %(revision)s), requests = %(requests)s,
    bytes = %(size)s, exported_at = clock_timestamp()
WHERE path = %(path)s
"""


@dataclass(frozen=True, slots=True)
class DueFile:
    """A file to write: its path in the sink, and what rows it holds."""

    path: str
    hour: datetime
    recorded_hour: datetime
    revision: int


class ExportLedger:
    """What was exported. All methods raise DependencyUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self) -> None:
        """Add the files of the hours of recording that are over, to the last commit that may belong to them."""
        async with self._database.transaction(COPY_S) as connection:
            locked = await (await connection.execute(_LOCK)).fetchone()
            given: dict[str, Any] = {"horizon": await find_horizon(connection), "overlap": OVERLAP_S}
            complete = await (await connection.execute(_COMPLETE, given)).fetchone()
            if locked is None or complete is None or complete["complete"] <= locked["through"]:
                return
            given |= {"through": locked["through"], "complete": complete["complete"]}
            await connection.execute(_ANNOUNCE, given)
            await connection.execute(_ADVANCE, given)

    async def next_due(self) -> DueFile | None:
        """The oldest file that has to be written."""
        row = await self._database.fetch_one(_DUE)
        return None if row is None else DueFile(row["path"], row["hour"], row["recorded_hour"], row["revision"])

    async def rows(self, file: DueFile) -> AsyncIterator[bytes]:
        """The rows of the file as CSV lines with the columns of `COLUMNS`, quoted by `QUOTE`; times in UTC."""
        given = {"hour": file.hour, "recorded": file.recorded_hour}
        async with self._database.transaction(COPY_S) as connection:
            await connection.execute("SET LOCAL timezone = 'UTC'")
            await connection.execute("SET LOCAL datestyle = 'ISO'")
            await connection.execute(_PARALLEL)
            async with connection.cursor() as cursor, cursor.copy(_ROWS, given) as copied:
                async for line in copied:
                    yield bytes(line)

    async def confirm(self, file: DueFile, requests: int, size: int) -> None:
        """The file is in its place, `size` bytes long."""
        given = {"path": file.path, "revision": file.revision, "requests": requests, "size": size}
        await self._database.fetch_all(_CONFIRM, given)
