"""Refitting predictors: inputs and reports of its workflow, the stored versions, and the ports to both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from modelpilot.learning.estimation import FitReport, FittedPredictor, Outlooks, TrainingRows
from modelpilot.learning.estimation.admission import Rival
from modelpilot.requests.records import HistoryScope

# Fewer stored outcomes than this say less than the catalogue and the neighbours do.
MINIMUM_ROWS = 50
# The newest rows of a router that a fit sees: bounds its memory (256 floats a row) and its time.
MAXIMUM_ROWS = 20_000
KEPT_VERSIONS = 5
# Routers per run of the workflow; it continues as new behind them.
ROUTERS_PER_RUN = 100

RefitStatus = Literal["accepted", "refused", "skipped"]


@dataclass(frozen=True, slots=True)
class RefitInput:
    """Which routers to fit anew. Without `user_id`: all that have new outcomes since their last fit. With it, that
    owner's routers (or the one `router_id`) in any case, since a revised quality is no new outcome.

    `after` and `failed` carry a long run on: the last router that was done, and how many could not be.
    """

    user_id: str | None = None
    router_id: str | None = None
    after: HistoryScope | None = None
    failed: int = 0


@dataclass(frozen=True, slots=True)
class RefitList:
    """Routers to fit, ordered by owner and id; `more`: the limit ended the list."""

    routers: tuple[HistoryScope, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class RefitReport:
    """What became of one router. `reason` says why it was refused or skipped; `fit` is the fit's report as JSON."""

    user_id: str
    router_id: str
    status: RefitStatus
    rows: int = 0
    version: int | None = None
    reason: str | None = None
    fit: dict[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RefitResult:
    """What one run did; `report` is that of the router it was asked for, if it was one."""

    accepted: int = 0
    refused: int = 0
    skipped: int = 0
    report: RefitReport | None = None


@dataclass(frozen=True, slots=True)
class FittedArtifact:
    """The result of a fit outside of this process: `artifact` is None exactly where the fit was refused."""

    artifact: bytes | None
    report: FitReport


class Fitter(Protocol):
    """Fits somewhere else than on the event loop."""

    async def fit(self, rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
        """Fit, and compare with the online model; canceling stops it. Raises RuntimeError where it broke off."""
        ...


@dataclass(frozen=True, slots=True)
class PredictorVersion:
    """One fit of a router. `fitted_at` is Unix seconds: outcomes stored until then were looked at."""

    version: int
    fitted_at: float
    rows: int
    accepted: bool
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ServedPredictor:
    """The fit that takes part in a router's decisions."""

    version: int
    fitted_at: float
    fitted: FittedPredictor


@dataclass(frozen=True, slots=True)
class Served:
    """What takes part in a router's decisions: what it has learnt online (`version`, as of `updated_at`, Unix seconds),
    and its newest fit if that was admitted. `because` says why the one or the other decides."""

    version: int = 0
    updated_at: float = 0.0
    outlooks: Outlooks | None = None
    predictor: ServedPredictor | None = None
    because: str = ""


class Predictors(Protocol):
    """What is learnt and in use, as decisions ask for it."""

    def get(self, scope: HistoryScope) -> Served | None:
        """What is there right now; never waits. None: there is none, or it is not loaded yet."""
        ...


class PredictorStore(Protocol):
    """Stored predictors. Raises DependencyUnavailable."""

    async def due(
        self, user_id: str | None, router_id: str | None, after: HistoryScope | None, limit: int
    ) -> tuple[HistoryScope, ...]:
        """Routers to fit behind `after`; without `user_id` only those with new outcomes since their last fit."""
        ...

    async def add(self, scope: HistoryScope, fitted_at: float, rows: int, fit: FittedArtifact) -> int:
        """Store a fit as the newest version, announce it, and forget what is too old; the version. 0: some of what it
        was fitted to was deleted meanwhile, and it is not stored."""
        ...

    async def newest(self, scope: HistoryScope, than: int = 0) -> tuple[PredictorVersion, bytes | None] | None:
        """The newest version, if it is newer than version `than`; with its artifact, if it was accepted."""
        ...

    async def versions(self, scope: HistoryScope) -> Sequence[PredictorVersion]:
        """All that is kept, newest first."""
        ...


@dataclass(frozen=True, slots=True)
class RefitRun:
    """The latest refit that was asked for of one router. `report` is there once it is completed."""

    workflow_id: str
    status: Literal["running", "completed", "failed"]
    report: RefitReport | None = None


class Refits(Protocol):
    """Refits on demand. Raises DependencyUnavailable."""

    async def start(self, scope: HistoryScope) -> RefitRun:
        """Begin one, or join the one that runs."""
        ...

    async def latest(self, scope: HistoryScope) -> RefitRun:
        """How it goes. Raises NotFound where none was asked for in a while."""
        ...
