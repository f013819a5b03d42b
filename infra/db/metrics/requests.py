"""Single requests: a list in any order, one of them as a whole, and when the newest one came."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection
from infra.db.metrics.explore import count_in_hours
from infra.db.metrics.hour_parts import Parts, only_raw, read_parts
from infra.db.metrics.measures import Expression, Selection, moments, over_both, over_requests, select, sums_of
from modelpilot.metrics.requests import (
    NO_FILTER,
    SORTABLE,
    AnalyticsScope,
    DataSpan,
    LoggedAttempt,
    LoggedRequest,
    Opinion,
    Order,
    RequestDetail,
    RequestFilter,
)
from modelpilot.requests.outcome import BillLine

_MOST_WALKED = 50_000  # requests, read one by one through an index; a million at once take about ten times as long

# The index orders requests within their owner, so the newest of all is found among the newest of each.
_LATEST: LiteralString = """
SELECT max(newest.created_at) AS latest FROM users CROSS JOIN LATERAL (
    SELECT created_at FROM requests WHERE requests.user_id = users.id ORDER BY created_at DESC LIMIT 1
) AS newest
WHERE %(user_id)s::text IS NULL OR users.id = %(user_id)s"""

# Raw rows are deleted some day, and hours stay: they have the beginning where it lies before the first raw row's hour.
_SPAN: LiteralString = """
SELECT min(CASE WHEN hours.first < date_trunc('hour', rows.first, 'UTC') THEN hours.first
                ELSE coalesce(rows.first, hours.first) END) AS first,
       max(coalesce(rows.last, hours.last + interval '1 hour')) AS last
FROM users CROSS JOIN LATERAL (
    SELECT (SELECT created_at FROM requests WHERE user_id = users.id ORDER BY created_at LIMIT 1) AS first,
           (SELECT created_at FROM requests WHERE user_id = users.id ORDER BY created_at DESC LIMIT 1) AS last
) AS rows CROSS JOIN LATERAL (
    SELECT (SELECT hour FROM hourly_totals WHERE user_id = users.id ORDER BY hour LIMIT 1) AS first,
           (SELECT hour FROM hourly_totals WHERE user_id = users.id ORDER BY hour DESC LIMIT 1) AS last
) AS hours
WHERE %(user_id)s::text IS NULL OR users.id = %(user_id)s"""

# Through the owners, since the key begins with them: an id alone has no index.
_REQUEST: LiteralString = """
SELECT requests.* FROM users JOIN requests ON requests.user_id = users.id AND requests.request_id = %(request_id)s
WHERE (%(user_id)s::text IS NULL OR users.id = %(user_id)s) AND (%(owner)s::text IS NULL OR users.id = %(owner)s)
ORDER BY created_at DESC LIMIT 1"""

_ATTEMPTS: LiteralString = """
SELECT seq, model, provider, deployment, status, error_type, http_status, started_at, latency_ms, ttft_ms, cost_usd,
       input_tokens, output_tokens, bill, list_cost_usd, estimated
FROM attempts WHERE user_id = %(user_id)s AND request_id = %(request_id)s ORDER BY seq"""

_FEEDBACK: LiteralString = """
SELECT source, score, updated_at FROM feedback WHERE user_id = %(user_id)s AND request_id = %(request_id)s
ORDER BY updated_at"""

_JUDGEMENTS: LiteralString = """
SELECT judge_model, rubric, status, score, coalesce(finished_at, started_at) AS at
FROM judgements WHERE user_id = %(user_id)s AND request_id = %(request_id)s ORDER BY 5"""

_KEY_NAMES: LiteralString = """
SELECT id, user_id, name FROM api_keys WHERE id = ANY (%(ids)s) AND user_id = ANY (%(owners)s)"""

# Columns by the names of the fields.
_LISTED = tuple(name for name in LoggedRequest.__dataclass_fields__ if name != "key_name")
_COLUMNS = ", ".join(_LISTED)


def latest_request_s(connection: SyncConnection, user_id: str | None) -> float | None:
    """When the tenant's newest request began (Unix seconds), whatever the range; None: it has none."""
    (row,) = connection.execute(_LATEST, {"user_id": user_id}).fetchall()
    return row["latest"].timestamp() if row["latest"] else None


def read_span(connection: SyncConnection, user_id: str | None) -> DataSpan | None:
    """When the tenant's first and newest request began, as far as rows or hours still tell; None: it has none."""
    (row,) = connection.execute(_SPAN, {"user_id": user_id}).fetchall()
    return None if row["first"] is None else DataSpan(row["first"].timestamp(), row["last"].timestamp())


def read_requests(
    connection: SyncConnection, scope: AnalyticsScope, wanted: RequestFilter, order: Order, start: int, end: int
) -> tuple[LoggedRequest, ...]:
    """Requests `start` to `end` of the ordered list. Raises ValueError for an unknown order."""
    if order.by not in SORTABLE:
        raise ValueError(f"requests cannot be sorted by {order.by}")
    where, given = _conditions(scope, wanted)
    by_index = order.by == "created_at" and _is_found_soon(connection, scope, wanted, end)
    query = _by_time(where, order) if by_index else _by_column(where, order)
    rows = connection.execute(query, {**given, "last": end, "start": start}).fetchall()
    names = _key_names(connection, rows)
    return tuple(_logged(row, names) for row in rows)


def count_requests(connection: SyncConnection, scope: AnalyticsScope, wanted: RequestFilter) -> int:
    """How many there are, out of the hourly rows as far as these can tell."""
    selected = select(scope, wanted)
    # What was paid for and is no request is counted as it is listed: hourly rows only know its cost.
    others = wanted.purpose not in (None, "request")
    parts = only_raw(*moments(scope)) if others else _parts(connection, scope, selected)
    count = {"requests": Expression("count(*)", "0")} if others else sums_of(("requests",))
    at_any_time, in_time = over_requests(count, {}, selected.requests), over_both(count, {}, selected, parts)
    query = at_any_time if wanted.request_id else in_time
    rows = connection.execute(query, {**selected.parameters, **parts.parameters}).fetchall()
    return int(sum(row["requests"] for row in rows))


def read_request(
    connection: SyncConnection, user_id: str | None, request_id: str, owner: str | None
) -> RequestDetail | None:
    """The request with its attempts and what was said about it; None where this tenant (None: any) has none of this
    id."""
    row = connection.execute(_REQUEST, {"user_id": user_id, "request_id": request_id, "owner": owner}).fetchone()
    if row is None:
        return None
    mine = {"user_id": row["user_id"], "request_id": row["request_id"]}
    known: dict[str, Any] = {name: row[name] for name in RequestDetail.__dataclass_fields__ if name in row}
    known |= {
        "request": _logged(row, _key_names(connection, [row])),
        "completed_at": row["completed_at"].timestamp(),
        "attempts": tuple(_attempt(one) for one in connection.execute(_ATTEMPTS, mine).fetchall()),
        "opinions": tuple(_opinions(connection, mine)),
    }
    return RequestDetail(**known)


def _key_names(connection: SyncConnection, rows: Sequence[DictRow]) -> Mapping[tuple[str, str | None], str]:
    """The names of the rows' keys by owner and id, as far as the keys are there still."""
    given = {"ids": list({row["api_key_id"] for row in rows}), "owners": list({row["user_id"] for row in rows})}
    found = connection.execute(_KEY_NAMES, given).fetchall() if rows else []
    return {(one["user_id"], one["id"]): one["name"] for one in found}


def _logged(row: DictRow, key_names: Mapping[tuple[str, str | None], str]) -> LoggedRequest:
    values = {name: row[name] for name in _LISTED}
    values["created_at"], values["degraded"] = row["created_at"].timestamp(), tuple(row["degraded"])
    return LoggedRequest(**values, key_name=key_names.get((row["user_id"], row["api_key_id"])))


def _attempt(row: DictRow) -> LoggedAttempt:
    bill = tuple(BillLine(**line) for line in row["bill"] or ())
    return LoggedAttempt(**{**row, "started_at": row["started_at"].timestamp(), "bill": bill})


def _opinions(connection: SyncConnection, given: dict[str, str]) -> list[Opinion]:
    said = [
        Opinion("feedback of an end user" if row["source"] else "feedback", row["score"], row["updated_at"].timestamp())
        for row in connection.execute(_FEEDBACK, given).fetchall()
    ]
    return said + [
        Opinion(f"judged by {row['judge_model']} ({row['rubric']})", row["score"], row["at"].timestamp(), row["status"])
        for row in connection.execute(_JUDGEMENTS, given).fetchall()
    ]


def _conditions(scope: AnalyticsScope, wanted: RequestFilter) -> tuple[str, dict[str, Any]]:
    """With an id, of any time: who has an id seldom has the time as well."""
    selected = select(scope, wanted)
    start, end = moments(scope)
    in_time = "true" if wanted.request_id else "created_at >= %(from)s AND created_at < %(to)s"
    return f"{in_time} AND {selected.requests}", {**selected.parameters, "from": start, "to": end}


def _is_found_soon(connection: SyncConnection, scope: AnalyticsScope, wanted: RequestFilter, rows: int) -> bool:
    """Whether walking through the requests in their order meets so many of the wanted ones before it has read more
    than reading all at once would cost."""
    if wanted == NO_FILTER:
        return True
    selected = select(scope, wanted)
    if selected.hourly is None:
        return False
    both = (select(scope, NO_FILTER), selected)
    every, mine = (count_in_hours(connection, _parts(connection, scope, one), one) for one in both)
    return rows * every <= _MOST_WALKED * mine


def _parts(connection: SyncConnection, scope: AnalyticsScope, selected: Selection) -> Parts:
    if selected.hourly is None:
        return only_raw(*moments(scope))
    return read_parts(connection, *moments(scope), selected.hourly, scope.user_id)


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
