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
from modelpilot.metrics.dimensions import Hourly

_HOUR = timedelta(hours=1)
METRICS = Hourly()
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)  # what the migration has put there

# What `split` wants to know of the range %(start)s to %(end)s, as one row: how far the aggregation has come, and which
# hours are stale. A note that only a dimension is missing leaves the other hourly rows right.
_KNOWN: LiteralString = """
SELECT aggregated.through, {has_all} AS has_all, array(
    SELECT hour FROM stale_hours
    WHERE hour >= greatest(%(start)s, closed.through) AND hour < least(%(end)s, aggregated.through) {stale}
    ORDER BY 1
) AS stale
FROM metric_progress AS aggregated, metric_progress AS closed
WHERE aggregated.name = 'aggregated' AND closed.name = 'closed'"""
HOURS_KNOWN: LiteralString = _KNOWN.format(has_all="true", stale="AND reason <> 'dimension' GROUP BY hour")
# The same for %(dimension)s of %(user_id)s (null: of everybody). Hours with more values than there are rows for are
# read from single requests as well, while these are there. A tag that an owner has not chosen is in no hour of theirs.
_HOURS_KNOWN_BY_DIMENSION: LiteralString = _KNOWN.format(
    has_all="""(NOT starts_with(%(dimension)s, 'tag.') OR NOT EXISTS (
        SELECT FROM hourly_totals AS spent
        WHERE hour >= %(start)s AND hour < %(end)s AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
            AND NOT EXISTS (SELECT FROM dimensions WHERE dimensions.user_id = spent.user_id
                AND 'tag.' || dimensions.tag = %(dimension)s)))""",
    stale="""UNION SELECT hour FROM hourly_dimension_totals
    WHERE hour >= greatest(%(start)s, closed.through) AND hour < least(%(end)s, aggregated.through)
        AND dimension = %(dimension)s AND value = '(other)' AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)""",
)

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


def known_query(start: datetime, end: datetime, asked: Hourly, user_id: str | None) -> tuple[str, dict[str, Any]]:
    """What `split` wants to know about these hourly rows, with its parameters."""
    given: dict[str, Any] = {"start": start, "end": end}
    if asked.dimension is None:
        return HOURS_KNOWN, given
    return _HOURS_KNOWN_BY_DIMENSION, {**given, "dimension": asked.dimension, "user_id": user_id}


def split(start: datetime, end: datetime, known: DictRow) -> Parts:
    """The parts of a range, by the row of `known_query`."""
    through = known["through"]
    first = _beginning(start) if start == _beginning(start) else _beginning(start) + _HOUR
    last = max(min(_beginning(end), _beginning(through)), first) if known.get("has_all", True) else first
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


def read_parts(
    connection: SyncConnection, start: datetime, end: datetime, asked: Hourly = METRICS, user_id: str | None = None
) -> Parts:
    """The parts of a range as the database stands now, for hourly rows of every owner or, of a dimension, of one."""
    (known,) = connection.execute(*known_query(start, end, asked, user_id)).fetchall()
    return split(start, end, known)


def _beginning(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
