"""`modelpilot.metrics.requests.RequestLogReader` on Postgres. One request as a whole comes from `request_detail`."""

from typing import Any

from psycopg import Connection
from psycopg.rows import DictRow

from infra.db.explore_reader import count_in_hours
from infra.db.hour_parts import only_raw, read_parts
from infra.db.measures import is_in_hours, narrowed
from infra.db.request_detail import LISTED, logged, read_detail
from infra.db.site_scope import latest_request_s, moments
from infra.db.sync_pool import SyncPool
from modelpilot.metrics.explore import RequestFilter
from modelpilot.metrics.overview import AnalyticsScope
from modelpilot.metrics.requests import SORTABLE, LoggedRequest, Order, RequestDetail

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
