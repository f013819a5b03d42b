"""Which part of a time range can be read from the hourly sums, and which has to be added up from single requests.

The rule is that of `totals.py`, which answers the analytics API: whole hours up to where the aggregation has come, less
those that are noted as stale.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

_HOUR = timedelta(hours=1)
_PROGRESS: LiteralString = "SELECT name, through FROM metric_progress"
_STALE: LiteralString = """
SELECT DISTINCT hour FROM stale_hours
WHERE hour >= greatest(%(first)s, %(closed)s) AND hour < %(last)s ORDER BY hour"""

# Conditions and sources over the parameters that `split` returns.
IN_HOURS: LiteralString = "hour >= %(first)s AND hour < %(last)s AND NOT hour = ANY (%(stale)s)"
REST: LiteralString = """unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS part (part_start, part_end)
    JOIN requests ON created_at >= part_start AND created_at < part_end"""


def split(connection: Connection[DictRow], start: datetime, end: datetime, *, hourly: bool = True) -> dict[str, Any]:
    """`first`, `last`: the whole hours, without the `stale` ones; `starts`, `ends`: all other parts; `through`.

    `hourly` False: everything from single requests. `through` is how far the aggregation has come.
    """
    state = {row["name"]: row["through"] for row in connection.execute(_PROGRESS)}
    first = _beginning(start) if start == _beginning(start) else _beginning(start) + _HOUR
    last = max(min(_beginning(end), _beginning(state["aggregated"])), first) if hourly else first
    given = {"first": first, "last": last, "closed": state["closed"]}
    stale = [row["hour"] for row in connection.execute(_STALE, given)] if first < last else []
    edges = [(start, min(first, end)), *((hour, hour + _HOUR) for hour in stale), (last, end)]
    parts = [(begin, finish) for begin, finish in edges if begin < finish]
    return {
        "first": first,
        "last": last,
        "stale": stale,
        "starts": [begin for begin, _ in parts],
        "ends": [finish for _, finish in parts],
        "through": state["aggregated"],
    }


def _beginning(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
