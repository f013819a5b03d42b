"""What the steps of the hourly aggregation are told and report, and what they need from the outside world.

Hours are Unix seconds of their beginning, UTC: 24 a day, whatever local clocks do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class AggregateTotals:
    """What a run did. `known`: hours that it has done or found. `before`: it has tried every noted hour from there on
    (None: every one). `failed`: its steps that failed."""

    known: int = 0
    before: int | None = None
    failed: tuple[str, ...] = ()
    hours: int = 0
    requests: int = 0
    files: int = 0
    exported: int = 0
    purged: int = 0


@dataclass(frozen=True, slots=True)
class AggregateInput:
    """The bounds of a run: `hours_per_step` hours in one activity call, `steps_per_run` such calls before the workflow
    continues as new, `purge_rows` deleted rows per transaction. `totals` carries what earlier parts of it did."""

    hours_per_step: int = 24
    steps_per_run: int = 10
    purge_rows: int = 5_000
    totals: AggregateTotals = field(default_factory=AggregateTotals)


@dataclass(frozen=True, slots=True)
class PlanInput:
    """Nothing to choose yet."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """`pending`: hours to compute. `too_late`: newly found rows of hours whose raw rows were deleted already, so that
    their aggregates are final."""

    pending: int
    too_late: int = 0


@dataclass(frozen=True, slots=True)
class HoursInput:
    """At most this many hours, newest first, of those before `before` (None: of all)."""

    hours: int
    before: int | None = None


@dataclass(frozen=True, slots=True)
class HoursReport:
    """`hours` were computed out of `requests` rows, `failed` ones were not (their notes stay). `oldest`: the last hour
    that was tried; None where all noted ones have been."""

    hours: int = 0
    requests: int = 0
    failed: int = 0
    oldest: int | None = None


@dataclass(frozen=True, slots=True)
class ExportInput:
    """At most this many files, and none is begun after so many seconds."""

    files: int = 500
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class ExportReport:
    """`more`: a limit ended it, so that files may be left."""

    files: int = 0
    requests: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class PurgeInput:
    """At most `rows` in each transaction, at most `batches` of them."""

    rows: int = 5_000
    batches: int = 40


@dataclass(frozen=True, slots=True)
class AggregateResult:
    """Result of a whole run, continued ones included."""

    hours: int
    requests: int
    files: int
    exported: int
    purged: int


class Aggregator(Protocol):
    """The hourly metrics. All methods raise DependencyUnavailable."""

    async def plan(self) -> PlanReport:
        """Note the hours of rows that were recorded since the last call, and of those recorded shortly before."""
        ...

    async def next_hours(self, limit: int, before: int | None) -> list[int]:
        """Up to `limit` noted hours, newest first, of those before `before`."""
        ...

    async def aggregate(self, hour: int) -> int:
        """Compute the hour out of its raw rows; how many those were. Removes the notes that it found."""
        ...


class Exporter(Protocol):
    """The warehouse sink."""

    async def export_next(self, beat: Callable[[int], None]) -> int | None:
        """Write the next file that is due; its rows, or None where nothing is due. Calls `beat` with the rows so far.

        Raises DependencyUnavailable, and OSError where the sink cannot be written.
        """
        ...


class Retention(Protocol):
    """How long raw rows are kept. All methods raise DependencyUnavailable."""

    async def close_hours(self) -> float:
        """Declare old hours that are aggregated and exported as final; the end of the last one, Unix seconds."""
        ...

    async def purge(self, batch: int) -> int:
        """Delete at most `batch` requests of final hours, with all that belongs to them; how many."""
        ...
