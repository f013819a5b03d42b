"""`modelpilot.metrics.requests.RequestLogReader` on Postgres. One request as a whole comes from `request_detail`."""

from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.metrics.explore import count_in_hours
from infra.db.metrics.hour_parts import only_raw, read_parts
from infra.db.metrics.measures import is_in_hours, narrowed
from infra.db.metrics.reading import SyncPool, latest_request_s, moments
from modelpilot.metrics.explore import RequestFilter
from modelpilot.metrics.overview import AnalyticsScope
from modelpilot.metrics.requests import SORTABLE, LoggedAttempt, LoggedRequest, Opinion, Order, RequestDetail
from modelpilot.requests.records import RequestKey

# One request with its attempts and what was said about it.

# Through the owners, since the key begins with them: an id alone has no index.
_REQUEST: LiteralString = """
SELECT requests.* FROM users JOIN requests ON requests.user_id = users.id AND requests.request_id = %(request_id)s
WHERE (%(user_id)s::text IS NULL OR users.id = %(user_id)s) AND (%(owner)s::text IS NULL OR users.id = %(owner)s)
ORDER BY created_at DESC LIMIT 1"""

_ATTEMPTS: LiteralString = """
SELECT seq, model, provider, deployment, status, error_type, http_status, started_at, latency_ms, ttft_ms, cost_usd,
       input_tokens, output_tokens
FROM attempts WHERE user_id = %(user_id)s AND request_id = %(request_id)s ORDER BY seq"""

_FEEDBACK: LiteralString = """
SELECT source, score, updated_at FROM feedback WHERE user_id = %(user_id)s AND request_id = %(request_id)s
ORDER BY updated_at"""

_JUDGEMENTS: LiteralString = """
SELECT judge_model, rubric, status, score, coalesce(finished_at, started_at) AS at
FROM judgements WHERE user_id = %(user_id)s AND request_id = %(request_id)s ORDER BY 5"""

# Columns by the names of the fields.
LISTED = tuple(LoggedRequest.__dataclass_fields__)
_SAME = (
    "finish_reason", "error_status", "stream", "config_version", "api_key_id", "session_id", "tags", "propensity",
    "explored", "cached_tokens", "reasoning_tokens", "carbon_g", "quality_source", "quality_confidence", "decision",
)  # fmt: skip


def read_detail(
    connection: Connection[DictRow], user_id: str | None, request_id: str, owner: str | None
) -> RequestDetail | None:
    """The request, or None where this tenant (None: any) has none of this id."""
    given = {"user_id": user_id, "request_id": request_id, "owner": owner}
    row = connection.execute(_REQUEST, given).fetchone()
    if row is None:
        return None
    key = RequestKey(row["user_id"], row["request_id"])
    mine = {"user_id": key.user_id, "request_id": key.request_id}
    known: dict[str, Any] = {name: row[name] for name in _SAME}
    return RequestDetail(
        request=logged(row),
        workflow_id=key.workflow_id,
        completed_at=row["completed_at"].timestamp(),
        **known,
        attempts=tuple(_attempt(one) for one in connection.execute(_ATTEMPTS, mine).fetchall()),
        opinions=tuple(_opinions(connection, mine)),
    )


def logged(row: DictRow) -> LoggedRequest:
    """The part of a row that lists show."""
    values = {name: row[name] for name in LISTED}
    values["created_at"], values["degraded"] = row["created_at"].timestamp(), tuple(row["degraded"])
    return LoggedRequest(**values)


def _attempt(row: DictRow) -> LoggedAttempt:
    return LoggedAttempt(**{**row, "started_at": row["started_at"].timestamp()})


def _opinions(connection: Connection[DictRow], given: dict[str, str]) -> list[Opinion]:
    said = [
        Opinion("feedback of an end user" if row["source"] else "feedback", row["score"], row["updated_at"].timestamp())
        for row in connection.execute(_FEEDBACK, given).fetchall()
    ]
    return said + [
        Opinion(f"judged by {row['judge_model']} ({row['rubric']})", row["score"], row["at"].timestamp(), row["status"])
        for row in connection.execute(_JUDGEMENTS, given).fetchall()
    ]


_MOST_WALKED = 50_000  # requests, read one by one through an index; a million at once take about ten times as long

_COLUMNS = ", ".join(LISTED)


class PostgresRequestLogReader:
    """Implements `modelpilot.metrics.requests.RequestLogReader`. May be called from many threads."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool

    def page(
        self, scope: AnalyticsScope, wanted: RequestFilter, order: Order, start: int, end: int
    ) -> tuple[LoggedRequest, ...]:
        """Requests `start` to `end` of the ordered list. Raises ValueError, DependencyUnavailable."""
        if order.by not in SORTABLE:
            raise ValueError(f"requests cannot be sorted by {order.by}")
        where, given = _conditions(scope, wanted)
        with self._pool.transaction() as connection:
            by_index = order.by == "created_at" and _is_found_soon(connection, scope, wanted, end)
            query = _by_time(where, order) if by_index else _by_column(where, order)
            rows = connection.execute(query, {**given, "last": end, "start": start}).fetchall()
        return tuple(logged(row) for row in rows)

    def count(self, scope: AnalyticsScope, wanted: RequestFilter) -> int:
        """How many there are, out of the hourly rows as far as these can tell. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            hours = read_parts(connection, *moments(scope)) if is_in_hours(wanted) else only_raw(*moments(scope))
            where, given = _conditions(scope, wanted, None if wanted.request_id else hours.of_raw)
            query = f"SELECT count(*) AS n FROM requests WHERE {where}"  # noqa: S608  (own constants)
            row = connection.execute(query, {**given, **hours.parameters}).fetchone() or {"n": 0}
            summed = count_in_hours(connection, hours, scope.user_id, wanted) if hours.first < hours.last else 0
        return int(row["n"]) + summed

    def latest(self, user_id: str | None) -> float | None:
        """When the tenant's newest request began. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            return latest_request_s(connection, user_id)

    def detail(self, user_id: str | None, request_id: str, owner: str | None) -> RequestDetail | None:
        """One request that this tenant may see. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            return read_detail(connection, user_id, request_id, owner)


def _conditions(
    scope: AnalyticsScope, wanted: RequestFilter, times: str | None = "created_at >= %(from)s AND created_at < %(to)s"
) -> tuple[str, dict[str, Any]]:
    where, given = narrowed(scope.user_id, wanted)
    start, end = moments(scope)
    in_time = times if times and not wanted.request_id else "true"
    return f"{in_time} AND {where}", {**given, "from": start, "to": end}


def _is_found_soon(connection: Connection[DictRow], scope: AnalyticsScope, wanted: RequestFilter, rows: int) -> bool:
    """Whether walking through the requests in their order meets so many of the wanted ones before it has read more
    than reading all at once would cost."""
    if wanted == RequestFilter():
        return True
    if not is_in_hours(wanted):
        return False
    parts = read_parts(connection, *moments(scope))
    every, mine = (count_in_hours(connection, parts, scope.user_id, one) for one in (RequestFilter(), wanted))
    return rows * every <= _MOST_WALKED * mine


def _by_time(where: str, order: Order) -> str:
    """The index orders requests within their owner, so the newest of all are found among the newest of each."""
    direction = "DESC" if order.descending else "ASC"
    ordered = f"ORDER BY created_at {direction}, request_id {direction}"
    return f"""
        SELECT found.* FROM users CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM requests WHERE requests.user_id = users.id AND {where} {ordered} LIMIT %(last)s
        ) AS found
        WHERE %(user_id)s::text IS NULL OR users.id = %(user_id)s
        {ordered}, user_id {direction} OFFSET %(start)s LIMIT %(last)s - %(start)s"""  # noqa: S608  (own constants)


def _by_column(where: str, order: Order) -> str:
    direction = "DESC NULLS LAST" if order.descending else "ASC NULLS LAST"
    # An expression: else Postgres would hope to find rare requests soon by walking through the index of times.
    by = "created_at + interval '0'" if order.by == "created_at" else order.by
    ties = "ASC" if order == Order(descending=False) else "DESC"
    return f"""
        SELECT {_COLUMNS} FROM requests WHERE {where}
        ORDER BY {by} {direction}, created_at {ties}, request_id {ties}, user_id {ties}
        OFFSET %(start)s LIMIT %(last)s - %(start)s"""  # noqa: S608  (order.by is one of SORTABLE)
