"""Which part of a range of time is in the hourly metrics, and which has to be read from single requests.

The synchronous sibling of what `totals` does for the API: the site shares no connection with it.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

_HOUR = timedelta(hours=1)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

_STATE: LiteralString = "SELECT name, through FROM metric_progress"
_STALE: LiteralString = """
SELECT DISTINCT hour FROM stale_hours
WHERE hour >= greatest(%(first)s, %(closed)s) AND hour < %(last)s ORDER BY hour"""

# Conditions for the parameters of `Parts.parameters`.
OF_HOURS: LiteralString = "hour >= %(first)s AND hour < %(last)s AND NOT hour = ANY (%(stale)s)"


@dataclass(frozen=True, slots=True)
class Parts:
    """Whole hours from `first` up to `last` (exclusive), but for the `stale` ones, come from hourly rows; `raw` are the
    times in between, before and after, each from and up to (exclusive)."""

    first: datetime
    last: datetime
    stale: tuple[datetime, ...] = ()
    raw: tuple[tuple[datetime, datetime], ...] = field(default=())

    @property
    def parameters(self) -> dict[str, Any]:
        """For `OF_HOURS` and `of_raw`."""
        bounds = {f"raw_{index}_{side}": part[side] for index, part in enumerate(self.raw) for side in (0, 1)}
        return {"first": self.first, "last": self.last, "stale": list(self.stale), **bounds}

    @property
    def of_raw(self) -> str:
        """The condition on single requests: plain comparisons, so that the index of times is used."""
        parts = [
            f"(created_at >= %(raw_{index}_0)s AND created_at < %(raw_{index}_1)s)" for index in range(len(self.raw))
        ]
        return f"({' OR '.join(parts)})" if parts else "false"


def split(start: datetime, end: datetime, through: datetime, stale: tuple[datetime, ...] = ()) -> Parts:
    """The parts of a range; hours are aggregated `through` that time, except for the `stale` ones."""
    first = _beginning(start) if start == _beginning(start) else _beginning(start) + _HOUR
    last = max(min(_beginning(end), _beginning(through)), first)
    edges = [(start, min(first, end)), *((hour, hour + _HOUR) for hour in stale), (max(last, start), end)]
    return Parts(first, last, stale, tuple((begin, finish) for begin, finish in edges if begin < finish))


def only_raw(start: datetime, end: datetime) -> Parts:
    """The whole range from single requests."""
    return Parts(start, start, (), ((start, end),))


def read_parts(connection: Connection[DictRow], start: datetime, end: datetime) -> Parts:
    """The parts of a range as the database stands now."""
    state = {row["name"]: row["through"] for row in connection.execute(_STATE).fetchall()}
    through, closed = state.get("aggregated", _EARLIEST), state.get("closed", _EARLIEST)
    whole = split(start, end, through)
    if whole.first >= whole.last:
        return whole
    given = {"first": whole.first, "last": whole.last, "closed": closed}
    stale = tuple(row["hour"] for row in connection.execute(_STALE, given).fetchall())
    return split(start, end, through, stale) if stale else whole


def _beginning(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
