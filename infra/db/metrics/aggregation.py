"""Hourly metrics, computed in Postgres: whole hours at a time, always out of the raw rows.

What has to be computed is noted in `stale_hours`: by `plan` for rows that were recorded since it last looked, and by
whoever changes rows later (`NOTE_STALE`). Notes survive every crash, and a computation that finds nothing new writes
the same figures again, so any number of runs may be repeated, missed or run side by side.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from psycopg import AsyncClientCursor

from infra.db.engine import Connection, Database
from infra.db.metrics.dimensions import (
    DIMENSION_COLUMNS,
    DIMENSION_KEY,
    DIMENSION_TOTALS,
    TOTALS_KEY,
    by_dimension,
    fine_sums,
)
from infra.db.metrics.measures import (
    ADDED,
    BASELINE_COLUMNS,
    BASELINE_KEY,
    PERCENTILES,
    REQUEST,
    TOTALS,
    baselines_over_requests,
)
from modelpilot.metrics.aggregation import PlanReport

# Rows carry the time at which they were written, but become visible when their transaction commits. Looking back to
# the start of the oldest writing transaction covers what the server tells us about; the rest are statements between
# taking their time and their first write, and connections that this role may not see, which are bounded by the 10 s
# of `Database.connection`.
OVERLAP_S = 120.0
# A forgotten session must not make every run compute days again.
LONGEST_TRANSACTION_S = 3_600.0
# A million rows take some ten seconds; a server that is busy with ten times that is still waited for.
_HOUR_LIMIT_S = 300.0

# For whoever revises rows: %(hours)s is timestamptz[] (any moments within the hours). In the same transaction as the
# revision, or after it.
NOTE_STALE = """
INSERT INTO stale_hours (hour, reason)
SELECT DISTINCT date_trunc('hour', moment, 'UTC'), 'revised' FROM unnest(%(hours)s::timestamptz[]) AS moment
"""

_LOCK_PROGRESS = "SELECT through FROM metric_progress WHERE name = 'aggregated' FOR UPDATE"
_CLOSED = "SELECT through FROM metric_progress WHERE name = 'closed'"

# Before the rows are looked for: whatever was recorded earlier than this is visible to the next statement.
_HORIZON = """
SELECT greatest(least(clock_timestamp(), min(xact_start)), clock_timestamp() - make_interval(secs => %(longest)s))
    AS horizon
FROM pg_stat_activity
WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid()
"""

_NOTE = """
WITH found AS (
    SELECT date_trunc('hour', created_at, 'UTC') AS hour, count(*) AS requests,
           count(*) FILTER (WHERE recorded_at >= %(through)s) AS fresh
    FROM requests WHERE recorded_at >= %(through)s::timestamptz - make_interval(secs => %(overlap)s)
    GROUP BY 1
), noted AS (
    INSERT INTO stale_hours (hour, reason) SELECT hour, 'recorded' FROM found WHERE hour >= %(closed)s
)
SELECT coalesce(sum(fresh) FILTER (WHERE hour < %(closed)s), 0)::bigint AS too_late FROM found
"""

_ADVANCE = """
UPDATE metric_progress SET through = greatest(through, %(horizon)s), updated_at = clock_timestamp()
WHERE name = 'aggregated'
"""

_NEXT = """
SELECT hour FROM stale_hours WHERE hour < coalesce(%(before)s, 'infinity'::timestamptz)
GROUP BY hour ORDER BY hour DESC LIMIT %(limit)s
"""
_PENDING = "SELECT count(DISTINCT hour) AS hours FROM stale_hours"

# Two runs may meet at an hour; the second waits, and then computes it again.
_LOCK_HOUR = "SELECT pg_advisory_xact_lock(hashtextextended('modelpilot-aggregate ' || %(hour)s::timestamptz, 0))"
# Shared: hours are not closed while one is being computed.
_IS_CLOSED = "SELECT %(hour)s < through AS closed FROM metric_progress WHERE name = 'closed' FOR SHARE"
_NOTES = """
SELECT coalesce(array_agg(id), '{}') AS ids, coalesce(bool_or(reason = 'revised'), false) AS revised,
    coalesce(bool_and(reason = 'dimension'), false) AS only_dimensions
FROM stale_hours WHERE hour = %(hour)s
"""
_DONE = """
INSERT INTO aggregated_hours (hour, requests, duration_ms)
SELECT %(hour)s, coalesce(sum(requests), 0), extract(epoch FROM clock_timestamp() - now()) * 1000
FROM hourly_metrics WHERE hour = %(hour)s
ON CONFLICT (hour) DO UPDATE
SET requests = excluded.requests, duration_ms = excluded.duration_ms, aggregated_at = clock_timestamp()
RETURNING requests
"""
_FORGET = "DELETE FROM stale_hours WHERE id = ANY (%(ids)s)"
_REVISE_FILES = "UPDATE exported_files SET revision = revision + 1 WHERE hour = %(hour)s"

# The statements that compute an hour: its groups and their baselines, and both added up by tenant. %(hour)s is the
# beginning of the hour. A group that has vanished (its rows changed model, or were deleted by hand) goes.
_GROUP = ("user_id", "router_id", "model", "provider")
_GROUPED_BY = {name: "coalesce(router_id, '')" if name == "router_id" else name for name in _GROUP}
_OF_HOUR = "created_at >= %(hour)s AND created_at < %(hour)s + interval '1 hour'"
_COLUMNS: Mapping[str, str] = {
    **ADDED,
    **PERCENTILES,
    "success_rate": f"coalesce(avg(success::int) FILTER (WHERE {REQUEST}), 0)",
    "avg_latency_ms": f"coalesce(avg(latency_ms) FILTER (WHERE {REQUEST}), 0)",
    "avg_cost_usd": "avg(cost_usd)",
    "avg_quality": "avg(quality)",
}


def _statement(table: str, key: Sequence[str], grouped: str, columns: Sequence[str]) -> str:
    """Replace the hour in `table` by the rows of the query `grouped`."""
    same = " AND ".join(f"kept.{name} = old.{name}" for name in key)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    stamp = ", updated_at = clock_timestamp()" if table == "hourly_metrics" else ""
    named = ", ".join((*key, *columns))
    return f"""
        WITH kept AS MATERIALIZED ({grouped}), vanished AS (
            DELETE FROM {table} AS old
            WHERE old.hour = %(hour)s AND NOT EXISTS (SELECT FROM kept WHERE {same})
        )
        INSERT INTO {table} (hour, {named}) SELECT %(hour)s, {named} FROM kept
        ON CONFLICT (hour, {", ".join(key)}) DO UPDATE SET {changes}{stamp}
    """  # noqa: S608  (own constants)


def _added_up(table: str, key: Sequence[str], source: str, columns: Sequence[str]) -> str:
    sums = ", ".join(f"sum({name}) AS {name}" for name in columns)
    names = ", ".join(("user_id", *key))
    grouped = f"SELECT {names}, {sums} FROM {source} WHERE hour = %(hour)s GROUP BY {names}"  # noqa: S608
    return _statement(table, ("user_id", *key), grouped, columns)


_METRICS = _statement(
    "hourly_metrics",
    _GROUP,
    f"""SELECT {", ".join(f"{sql} AS {name}" for name, sql in {**_GROUPED_BY, **_COLUMNS}.items())}
        FROM requests WHERE {_OF_HOUR} GROUP BY 1, 2, 3, 4""",  # noqa: S608  (own constants)
    tuple(_COLUMNS),
)
# Two passes over an hour have tables of their own, for which Postgres uses all its workers: it does not within a
# statement that also writes elsewhere. The server binds no parameters to them, so the client does.
_GATHERED = "CREATE TEMPORARY TABLE {table} ON COMMIT DROP AS {query}"
_BASELINES_OF_HOUR, _FINE_OF_HOUR = "baselines_of_hour", "fine_sums_of_hour"
_BASELINES = _statement(
    "hourly_baselines",
    (*_GROUP, *BASELINE_KEY),
    f"SELECT * FROM {_BASELINES_OF_HOUR}",  # noqa: S608  (own constants)
    BASELINE_COLUMNS,
)
_GATHER_BASELINES = _GATHERED.format(table=_BASELINES_OF_HOUR, query=baselines_over_requests(_OF_HOUR, _GROUPED_BY))
_GATHER_FINE = _GATHERED.format(table=_FINE_OF_HOUR, query=fine_sums(_OF_HOUR))
# To be run after both of them, whose rows they add up.
_TOTALS = _added_up("hourly_totals", ("model",), "hourly_metrics", TOTALS)
_BASELINE_TOTALS = _added_up("hourly_baseline_totals", BASELINE_KEY, "hourly_baselines", BASELINE_COLUMNS)
_DIMENSIONS = _statement("hourly_dimensions", DIMENSION_KEY, by_dimension(_OF_HOUR, _FINE_OF_HOUR), DIMENSION_COLUMNS)
_DIMENSION_TOTALS = _statement("hourly_dimension_totals", TOTALS_KEY, DIMENSION_TOTALS, DIMENSION_COLUMNS)
# A new dimension leaves all other figures of an hour as they are, and the files of its rows.
_ONLY_DIMENSIONS = (_GATHER_FINE, _DIMENSIONS, _DIMENSION_TOTALS)
_WHOLE_HOUR = (_METRICS, _GATHER_BASELINES, _BASELINES, _TOTALS, _BASELINE_TOTALS, *_ONLY_DIMENSIONS)
_NO_NOTES = {"ids": [], "revised": False, "only_dimensions": False}


class PostgresAggregator:
    """Implements `modelpilot.metrics.aggregation.Aggregator`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def plan(self) -> PlanReport:
        """Note the hours of rows recorded since the last call; late rows bring their old hours back."""
        async with self._database.transaction(_HOUR_LIMIT_S) as connection:
            through = await _moment(connection, _LOCK_PROGRESS)
            closed = await _moment(connection, _CLOSED)
            horizon = await find_horizon(connection)
            given = {"through": through, "closed": closed, "overlap": OVERLAP_S, "horizon": horizon}
            found = await (await connection.execute(_NOTE, given)).fetchone()
            await connection.execute(_ADVANCE, given)
        return PlanReport(await self.pending(), found["too_late"] if found else 0)

    async def next_hours(self, limit: int, before: int | None = None) -> list[int]:
        """Up to `limit` noted hours before `before`, newest first: people look at those."""
        given = {"limit": limit, "before": None if before is None else datetime.fromtimestamp(before, UTC)}
        rows = await self._database.fetch_all(_NEXT, given)
        return [int(row["hour"].timestamp()) for row in rows]

    async def pending(self) -> int:
        """How many hours are noted."""
        row = await self._database.fetch_one(_PENDING)
        return int(row["hours"]) if row else 0

    async def aggregate(self, hour: int) -> int:
        """Compute one hour; how many requests it has. Notes that come while it computes are left for the next run."""
        given = {"hour": datetime.fromtimestamp(hour, UTC)}
        async with self._database.transaction(_HOUR_LIMIT_S) as connection:
            await connection.execute("SET LOCAL work_mem = '64MB'")  # sorts of a large hour; one at a time per worker
            await connection.execute(_LOCK_HOUR, given)
            closed = await (await connection.execute(_IS_CLOSED, given)).fetchone()
            notes = await (await connection.execute(_NOTES, given)).fetchone() or _NO_NOTES
            statements = _ONLY_DIMENSIONS if notes["only_dimensions"] else _WHOLE_HOUR
            requests = 0 if closed and closed["closed"] else await _compute(connection, given, statements)
            if notes["revised"] and requests:
                await connection.execute(_REVISE_FILES, given)
            await connection.execute(_FORGET, {"ids": notes["ids"]})
        return requests


async def _compute(connection: Connection, given: dict[str, datetime], statements: Sequence[str]) -> int:
    cursor = AsyncClientCursor(connection)
    for statement in statements:
        await cursor.execute(statement.encode(), given)
    done = await (await connection.execute(_DONE, given)).fetchone()
    return int(done["requests"]) if done else 0


async def _moment(connection: Connection, query: str) -> datetime:
    row = await (await connection.execute(query)).fetchone()
    found: datetime = row["through"] if row else datetime.fromtimestamp(0, UTC)
    return found


async def find_horizon(connection: Connection) -> datetime:
    """A moment before which everything recorded is visible to the statements that follow (see `OVERLAP_S`)."""
    row = await (await connection.execute(_HORIZON, {"longest": LONGEST_TRANSACTION_S})).fetchone()
    found: datetime = row["horizon"] if row else datetime.now(UTC)
    return found
