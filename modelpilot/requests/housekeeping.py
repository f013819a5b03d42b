"""Inputs and results of the housekeeping workflow and its activities."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BatchLimit:
    """How much one run may do: at most `batches` batches of at most `rows` rows."""

    rows: int
    batches: int


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How many rows were done; `more`: the limit ended it, or the worker's shutdown, so that rows are left."""

    rows: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class FlushInput:
    """No settings so far."""


@dataclass(frozen=True, slots=True)
class FlushReport:
    """How long the vector store took, milliseconds."""

    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class HousekeepingInput:
    """The bounds of one run. Batches are small, so that no request waits behind one."""

    purge: BatchLimit = field(default_factory=lambda: BatchLimit(rows=1_000, batches=20))
    replay: BatchLimit = field(default_factory=lambda: BatchLimit(rows=200, batches=25))


@dataclass(frozen=True, slots=True)
class HousekeepingResult:
    """What one run did."""

    purged: BatchReport = field(default_factory=BatchReport)
    replayed: BatchReport = field(default_factory=BatchReport)
    flushed: FlushReport = field(default_factory=FlushReport)
