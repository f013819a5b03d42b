"""Which part of a range of time is in the hourly metrics, and which has to be read from single requests.

Whole hours up to where the aggregation has come, less those that are noted as stale. One rule for the analytics API and
for the site, which read over connections of different kinds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from psycopg.rows import DictRow

from infra.db.engine import SyncConnection

_HOUR = timedelta(hours=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # what the migration has put there

# What `split` wants to know of the range %(start)s to %(end)s, as one row of `through` and `stale`.
HOURS_KNOWN: LiteralString = """
SELECT aggregated.through, array(
    SELECT DISTINCT hour FROM stale_hours
    WHERE hour >= greatest(%(start)s, closed.through) AND hour < least(%(end)s, aggregated.through) ORDER BY hour
) AS stale
FROM metric_progress AS aggregated, metric_progress AS closed
WHERE aggregated.name = 'aggregated' AND closed.name = 'closed'"""

# A condition for the parameters of `Parts.parameters`.
OF_HOURS: LiteralString = "hour >= %(first)s AND hour < %(last)s AND NOT hour = ANY (%(stale)s)"


@dataclass(frozen=True, slots=True)
class Parts:
    """Whole hours from `first` up to `last` (exclusive), but for the `stale` ones, come from hourly rows; `raw` are the
    times in between, before and after, each from and up to (exclusive). `through` is how far the aggregation has come
    (None: nowhere yet)."""

    first: datetime
    last: datetime
    stale: tuple[datetime, ...]
    raw: tuple[tuple[datetime, datetime], ...]
    through: datetime | None = None

    @property
    def hours(self) -> int:
        """How many hours come from hourly rows."""
        return int((self.last - self.first) / _HOUR) - len(self.stale)

    @property
    def parameters(self) -> dict[str, Any]:
        """For `OF_HOURS` and `of_raw`."""
        bounds = {f"raw_{index}_{side}": part[side] for index, part in enumerate(self.raw) for side in (0, 1)}
        return {"first": self.first, "last": self.last, "stale": list(self.stale), **bounds}

    @property
    def of_raw(self) -> str:
        """The condition on single requests: plain comparisons, since for a join with the parts Postgres does not use
        the index of times, and reads every request that there is."""
        parts = [
            f"(created_at >= %(raw_{index}_0)s AND created_at < %(raw_{index}_1)s)" for index in range(len(self.raw))
        ]
        return f"({' OR '.join(parts)})" if parts else "false"


def split(start: datetime, end: datetime, known: DictRow) -> Parts:
    """The parts of a range, by the row of `HOURS_KNOWN`."""
    through = known["through"]
    first = _beginning(start) if start == _beginning(start) else _beginning(start) + _HOUR
    last = max(min(_beginning(end), _beginning(through)), first)
    stale = tuple(hour for hour in known["stale"] if first <= hour < last)
    edges = [(start, min(first, end)), *((hour, hour + _HOUR) for hour in stale), (last, end)]
    return Parts(first, last, stale, _joined(edges), through if through > _NEVER else None)


def _joined(edges: Iterable[tuple[datetime, datetime]]) -> tuple[tuple[datetime, datetime], ...]:
    """Times without those that are empty, and one for those that follow each other: stale hours often come in days."""
    found: list[tuple[datetime, datetime]] = []
    for begin, finish in edges:
        if found and found[-1][1] == begin < finish:
            found[-1] = (found[-1][0], finish)
        elif begin < finish:
            found.append((begin, finish))
    return tuple(found)


def only_raw(start: datetime, end: datetime) -> Parts:
    """The whole range from single requests."""
    return Parts(start, start, (), ((start, end),))


def read_parts(connection: SyncConnection, start: datetime, end: datetime) -> Parts:
    """The parts of a range as the database stands now."""
    (known,) = connection.execute(HOURS_KNOWN, {"start": start, "end": end}).fetchall()
    return split(start, end, known)


def _beginning(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
