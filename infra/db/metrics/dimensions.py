"""Dimensions in Postgres: an hour's sums by user, key, purpose and the tags that its owners chose, and that choice.

The sums are computed with the rest of the hour (`infra.db.metrics.aggregation`): one pass over its requests, that of
`fine_sums`, tells users, keys and purposes apart at once, each of which then adds its groups up. Tags, which taken
together make as many groups as requests, are told apart one by one.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, LiteralString

from psycopg.rows import DictRow

from infra.db.engine import Connection, Database, SyncConnection
from infra.db.management.changes import changing
from infra.db.metrics.measures import ADDED
from modelpilot.metrics.dimensions import MOST_VALUE_BYTES, MOST_VALUES, OTHER, TAG, ChosenTags

DIMENSION_KEY = ("user_id", "dimension", "value", "router_id", "model", "provider")
DIMENSION_COLUMNS = (*ADDED, "avg_quality")

_EVERY = (*ADDED, "quality_sum")
_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in _EVERY)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in ADDED)


_FINE = ", ".join(f"{sql} AS {name}" for name, sql in ADDED.items())


def fine_sums(of_hour: str) -> str:
    """The query of the sums by everything that is a dimension of everybody, for the requests of `of_hour`."""
    return f"""
        SELECT user_id, coalesce(router_id, '') AS router_id, model, provider, coalesce(end_user, '') AS end_user,
            coalesce(api_key_id, '') AS api_key_id, purpose, {_FINE}, coalesce(sum(quality), 0) AS quality_sum
        FROM requests WHERE {of_hour} GROUP BY 1, 2, 3, 4, 5, 6, 7"""  # noqa: S608  (own constants)


def by_dimension(of_hour: str, fine: str) -> str:
    """The query of the rows of `hourly_dimensions` (`DIMENSION_KEY` and `DIMENSION_COLUMNS`) for the requests of the
    condition `of_hour`, whose `fine_sums` are in the table `fine`."""
    bounded = f"CASE WHEN octet_length(said) > {MOST_VALUE_BYTES} THEN '{OTHER}' ELSE said END"
    return f"""
        WITH grouped AS MATERIALIZED (
            SELECT user_id, dimension, {bounded} AS value, router_id, model, provider, {_ADDED_UP}
            FROM {fine} CROSS JOIN LATERAL (
                VALUES ('userId', end_user), ('keyId', api_key_id), ('purpose', purpose)) AS named (dimension, said)
            GROUP BY 1, 2, 3, 4, 5, 6
            UNION ALL
            SELECT user_id, '{TAG}' || tag, {bounded}, coalesce(router_id, ''), model, provider, {_FINE},
                coalesce(sum(quality), 0)
            FROM requests JOIN dimensions USING (user_id)
                CROSS JOIN LATERAL (SELECT coalesce(tags ->> tag, '') AS said) AS named
            WHERE {of_hour.replace("created_at", "requests.created_at")} GROUP BY 1, 2, 3, 4, 5, 6
        ), ranked AS (
            SELECT user_id, dimension, value, row_number() OVER (
                PARTITION BY user_id, dimension
                ORDER BY value = '' DESC, sum(total_cost_usd) DESC, sum(requests) DESC, value) AS place
            FROM grouped WHERE value <> '{OTHER}' GROUP BY 1, 2, 3
        )
        SELECT user_id, dimension, CASE WHEN place <= {MOST_VALUES} THEN value ELSE '{OTHER}' END AS value,
            router_id, model, provider, {_SUMS}, sum(quality_sum) / nullif(sum(quality_count), 0) AS avg_quality
        FROM grouped LEFT JOIN ranked USING (user_id, dimension, value) GROUP BY 1, 2, 3, 4, 5, 6"""  # noqa: S608


# Over routers, models and providers.
TOTALS_KEY = ("user_id", "dimension", "value")
DIMENSION_TOTALS = f"""
    SELECT user_id, dimension, value, {_SUMS},
        sum(avg_quality * quality_count) / nullif(sum(quality_count), 0) AS avg_quality
    FROM hourly_dimensions WHERE hour = %(hour)s GROUP BY 1, 2, 3"""  # noqa: S608  (own constants)

_CHOSEN = "SELECT tag FROM dimensions WHERE user_id = %(user_id)s ORDER BY tag"
_PENDING = """
SELECT count(DISTINCT hour) AS hours FROM stale_hours
WHERE reason = 'dimension' AND hour IN (SELECT hour FROM hourly_totals WHERE user_id = %(user_id)s)"""
_ADD = "INSERT INTO dimensions (user_id, tag) SELECT %(user_id)s, unnest(%(added)s::text[])"
_DROP = "DELETE FROM dimensions WHERE user_id = %(user_id)s AND tag = ANY (%(dropped)s)"
_DROP_ROWS = """
DELETE FROM {table} WHERE user_id = %(user_id)s
    AND dimension = ANY (SELECT 'tag.' || name FROM unnest(%(dropped)s::text[]) AS name)"""
# Shared: no hour is closed meanwhile, so that each gets its rows here or has its note kept.
_CLOSED = "SELECT through FROM metric_progress WHERE name = 'closed' FOR SHARE"
# Hours that an aggregation may be computing just now are noted as well: it has read the choice of before. Their notes
# are still there.
_NOTE = """
INSERT INTO stale_hours (hour, reason)
SELECT hour, 'dimension' FROM (
    SELECT hour FROM hourly_totals WHERE user_id = %(user_id)s AND cardinality(%(added)s::text[]) > 0
    UNION SELECT hour FROM stale_hours
) AS found WHERE hour >= %(closed)s"""
# Of hours whose requests may be gone nobody knows the tags any more.
_FILL = f"""
INSERT INTO hourly_dimensions (hour, {", ".join((*DIMENSION_KEY, *DIMENSION_COLUMNS))})
SELECT hour, user_id, '{TAG}' || name, '{OTHER}', router_id, model, provider, {", ".join(DIMENSION_COLUMNS)}
FROM hourly_metrics, unnest(%(added)s::text[]) AS name WHERE user_id = %(user_id)s AND hour < %(closed)s"""  # noqa: S608
_FILL_TOTALS = f"""
INSERT INTO hourly_dimension_totals (hour, {", ".join((*TOTALS_KEY, *DIMENSION_COLUMNS))})
SELECT hour, user_id, dimension, value, {_SUMS},
    sum(avg_quality * quality_count) / nullif(sum(quality_count), 0)
FROM hourly_dimensions WHERE user_id = %(user_id)s AND hour < %(closed)s
    AND dimension = ANY (SELECT 'tag.' || name FROM unnest(%(added)s::text[]) AS name)
GROUP BY 1, 2, 3, 4"""  # noqa: S608  (own constants)


def _joined(table: str, key: Sequence[str]) -> str:
    """Rows of a value become part of those of all others."""
    columns = (*ADDED, "avg_quality")
    names = ", ".join((*key, *columns))
    taken = ", ".join("'" + OTHER + "'" if name == "value" else name for name in (*key, *columns))
    sums = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in ADDED)
    known = "coalesce({0}.avg_quality * {0}.quality_count, 0)"
    both = f"{known.format('kept')} + {known.format('excluded')}"
    return f"""
        WITH gone AS (
            DELETE FROM {table} WHERE user_id = %(user_id)s AND dimension = %(dimension)s AND value = %(value)s
            RETURNING *
        )
        INSERT INTO {table} AS kept (hour, {names}) SELECT hour, {taken} FROM gone
        ON CONFLICT (hour, {", ".join(key)}) DO UPDATE SET {sums},
            avg_quality = ({both}) / nullif(kept.quality_count + excluded.quality_count, 0)"""  # noqa: S608


_FORGET_VALUE = (_joined("hourly_dimensions", DIMENSION_KEY), _joined("hourly_dimension_totals", TOTALS_KEY))


async def forget_value(connection: Connection, user_id: str, dimension: str, value: str) -> None:
    """Count a value among the others, within a transaction: hours whose requests are gone would name it for ever."""
    for statement in _FORGET_VALUE:
        await connection.execute(statement, {"user_id": user_id, "dimension": dimension, "value": value})


class PostgresDimensions:
    """Implements `modelpilot.metrics.dimensions.Dimensions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chosen(self, user_id: str) -> ChosenTags:
        """The owner's choice as it stands."""
        async with self._database.transaction() as connection:
            tags = await _tags(connection, user_id)
            row = await (await connection.execute(_PENDING, {"user_id": user_id})).fetchone()
        return ChosenTags(tags, int(row["hours"]) if row else 0)

    async def choose(self, user_id: str, tags: Sequence[str], actor: str) -> ChosenTags:
        """Replace the choice, audited. Where nothing has changed, nothing is written."""
        wanted = tuple(sorted(set(tags)))
        async with changing(self._database, "dimensions", user_id, "tags") as change:
            before = await _tags(change.connection, user_id)
            added, dropped = sorted({*wanted} - {*before}), sorted({*before} - {*wanted})
            if added or dropped:
                await _change(change.connection, user_id, added, dropped)
                await change.done("update", actor, {"tags": list(before)}, {"tags": list(wanted)})
        return await self.chosen(user_id)


async def _tags(connection: Connection, user_id: str) -> tuple[str, ...]:
    rows = await (await connection.execute(_CHOSEN, {"user_id": user_id})).fetchall()
    return tuple(row["tag"] for row in rows)


async def _change(connection: Connection, user_id: str, added: list[str], dropped: list[str]) -> None:
    closed = await (await connection.execute(_CLOSED)).fetchone()
    given = {"user_id": user_id, "added": added, "dropped": dropped, "closed": closed["through"] if closed else None}
    await connection.execute(_DROP, given)
    for table in ("hourly_dimensions", "hourly_dimension_totals"):
        await connection.execute(_DROP_ROWS.format(table=table), given)
    for statement in (_ADD, _FILL, _FILL_TOTALS, _NOTE):
        await connection.execute(statement, given)


_MINE: LiteralString = "(%(user_id)s::text IS NULL OR user_id = %(user_id)s)"
# Of the last days, and of the requests that no hour has yet: enough to choose from.
_VALUES: LiteralString = f"""
SELECT dimension, value FROM (
    SELECT dimension, value, row_number() OVER (PARTITION BY dimension ORDER BY sum(requests) DESC, value) AS place
    FROM (
        SELECT dimension, value, requests FROM hourly_dimension_totals
        WHERE hour > now() - interval '7 days' AND (dimension = 'userId' OR starts_with(dimension, 'tag.')) AND {_MINE}
        UNION ALL SELECT 'userId', end_user, 1 FROM requests WHERE created_at > now() - interval '2 hours' AND {_MINE}
        UNION ALL SELECT 'tag.' || tag, tags ->> tag, 1
        FROM requests JOIN (SELECT tag, user_id AS owner FROM dimensions) AS chosen ON owner = user_id
        WHERE created_at > now() - interval '2 hours' AND tags <> '{{}}'::jsonb AND {_MINE}
    ) AS found WHERE value NOT IN ('', '(other)') GROUP BY 1, 2
) AS ranked WHERE place <= 100 ORDER BY 1, 2"""  # noqa: S608  (own constants)
_TAGS: LiteralString = f"SELECT DISTINCT tag FROM dimensions WHERE {_MINE} ORDER BY 1"  # noqa: S608
_KEYS: LiteralString = f"""
SELECT id, name, prefix FROM api_keys WHERE {_MINE} AND (%(ids)s::text[] IS NULL OR id = ANY (%(ids)s))
ORDER BY name, created_at LIMIT 1000"""  # noqa: S608  (own constants)


def read_whose(connection: SyncConnection, user_id: str | None) -> dict[str, Any]:
    """The users, keys and tags that filters offer to a tenant, to everybody's viewer for None: fields of `Choices`."""
    values = connection.execute(_VALUES, {"user_id": user_id}).fetchall()
    tags = connection.execute(_TAGS, {"user_id": user_id}).fetchall()
    return {
        "users": tuple(row["value"] for row in values if row["dimension"] == "userId"),
        "keys": tuple(read_key_names(connection, user_id).items()),
        "tags": tuple(row["tag"] for row in tags),
        "tag_values": tuple(
            (row["dimension"].removeprefix(TAG), row["value"]) for row in values if row["dimension"] != "userId"
        ),
    }


def read_key_names(
    connection: SyncConnection, user_id: str | None, ids: Collection[str] | None = None
) -> Mapping[str, str]:
    """What people call these keys (None: all) of a tenant, by id. Where several have the same name, or none, it has the
    beginning of the key as well."""
    given = {"user_id": user_id, "ids": None if ids is None else list(ids)}
    rows = connection.execute(_KEYS, given).fetchall()
    names = Counter(row["name"] for row in rows)
    return {row["id"]: _key_name(row, alone=names[row["name"]] == 1) for row in rows}


def _key_name(row: DictRow, *, alone: bool) -> str:
    return str(row["name"] if row["name"] and alone else f"{row['name']} {row['prefix']}…".strip())
