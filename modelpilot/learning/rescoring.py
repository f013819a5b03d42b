"""Batch re-scoring: the inputs and reports of its workflow, the rows and jobs that it works on, and the ports to both.

Inputs and reports enter workflow histories: new fields get defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modelpilot.learning.feedback import SourceTotal
from modelpilot.learning.quality import Quality, Source
from modelpilot.management.resources import Page
from modelpilot.metrics.jobs import JobStatus
from modelpilot.requests.records import HistoryScope, QualityUpdate

NIGHTLY_SOURCES: tuple[Source, ...] = ("checks", "feedback")
# Older rows have been looked at in earlier nights; what has been said about them since is looked at all the same.
NIGHTLY_DAYS = 7


@dataclass(frozen=True, slots=True)
class RescoreSpec:
    """Which stored outcomes, and how. Times are Unix seconds, `to_s` exclusive.

    What is recorded always counts; `sources` says what is looked at anew: `checks` where text is stored, `judge` where
    text is stored and no verdict exists. `include_pending` adds older rows whose quality the vector history lacks.
    """

    router_id: str | None = None
    model: str | None = None
    from_s: float | None = None
    to_s: float | None = None
    sample_size: int | None = None
    sources: tuple[Source, ...] = NIGHTLY_SOURCES
    judge_model: str | None = None
    judge_budget_usd: float = 0.0
    judge_rate_per_minute: float = 60.0
    allow_self_judging: bool = False
    include_pending: bool = False


@dataclass(frozen=True, slots=True)
class RescoreProgress:
    """How far a job has come, in rows. `judge_stopped` says why judging ended early: `budget` or `provider`."""

    done: int = 0
    total: int = 0
    scored: int = 0
    judge_stopped: str | None = None


@dataclass(frozen=True, slots=True)
class RescoreInput:
    """A job of one user, or (`all_users`) the nightly one, whose window ends when it starts.

    The fields from `opened` on are carried from run to run of one job. After `slices_per_run` of them (a dozen events
    each) it continues as new, far below Temporal's limit of 51,200 events.
    """

    user_id: str
    job_id: str
    spec: RescoreSpec
    all_users: bool = False
    nightly: bool = False
    opened: bool = False
    paused: bool = False
    progress: RescoreProgress = field(default_factory=RescoreProgress)
    revised_users: tuple[str, ...] = ()
    slices_per_run: int = 200

    @property
    def workflow_id(self) -> str:
        """The Temporal workflow id of a job on demand."""
        return workflow_id_of(self.user_id, self.job_id)


def workflow_id_of(user_id: str, job_id: str) -> str:
    """The Temporal workflow id of a job on demand."""
    return f"rescore/{user_id}/{job_id}"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order in which a job works: by user, time (Unix s), request id. "" comes before every user."""

    user_id: str = ""
    created_at: float | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class SliceInput:
    """Work on a job from its recorded position on: to its end, or up to and including `until`."""

    job: RescoreInput
    until: Position | None = None


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What a slice has come to. `finished`: no rows are left (before `until`). `revised_users` are the owners whose
    rows changed: their predictors are due."""

    progress: RescoreProgress
    finished: bool
    revised_users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What a round of judging has come to: every row up to `until` may be scored now; None means all rows.

    `handled` rows were looked at, and `judged` ones have a verdict. `wait_s`: the rate allows the next call only then.
    `stopped`: why no more is judged in this job.
    """

    until: Position | None
    handled: int = 0
    judged: int = 0
    wait_s: float = 0.0
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class CloseInput:
    """How the job ended."""

    job: RescoreInput
    status: JobStatus
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RescoreResult:
    """What the job did, as the workflow reports it."""

    status: JobStatus
    progress: RescoreProgress


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one source of feedback has said about a request."""

    api_key: str
    source: str
    score: float


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """One answer, as far as scoring needs it. `quality` and `quality_source` are what stands now; `pending`: the vector
    history does not have that yet. `judge` is the mean of the verdicts there are."""

    user_id: str
    request_id: str
    router_id: str
    model: str
    prompt_hash: str
    created_at: float
    checks: float | None
    opinions: tuple[Opinion, ...]
    judge: float | None
    quality: float | None
    quality_source: str | None
    pending: bool
    has_text: bool

    @property
    def position(self) -> Position:
        """Where it comes in the order of a job."""
        return Position(self.user_id, self.created_at, self.request_id)

    @property
    def scope(self) -> HistoryScope:
        """Whose history its point is in."""
        return HistoryScope(self.user_id, self.router_id)


@dataclass(frozen=True, slots=True)
class Revision:
    """A quality to write: of which row, what, and what the checks say now."""

    row: StoredOutcome
    quality: Quality | None
    checks: float | None


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as it is stored. Times are Unix seconds; `judge_cost_usd` includes calls whose outcome is not known, at
    their estimate."""

    user_id: str
    id: str
    workflow_id: str
    status: JobStatus
    paused: bool
    spec: RescoreSpec
    progress: RescoreProgress
    position: Position
    sample_below: int | None
    judged: int
    judge_cost_usd: float
    created_at: float
    finished_at: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OutcomePage:
    """Rows of one user, and where to go on; without `more` the end is reached, and `next` is its position."""

    rows: tuple[StoredOutcome, ...]
    next: Position
    more: bool


class RescoreJobs(Protocol):
    """Jobs as they are stored. All methods raise DependencyUnavailable."""

    async def add(self, job: RescoreInput, workflow_id: str) -> None:
        """Make the job where it is not there yet."""
        ...

    async def open(self, job: RescoreInput, workflow_id: str) -> JobState:
        """As `add`, and count the job's rows and draw its sample. A nightly job leaves out what the last one has looked
        at, unless something was said about it since: the stored `spec` says from when on it looks at all rows."""
        ...

    async def job(self, user_id: str, job_id: str) -> JobState:
        """Raises NotFound."""
        ...

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[JobState]:
        """Newest first."""
        ...

    async def advance(self, state: JobState, to: Position, done: int, scored: int) -> JobState:
        """Move the job's position and add to its counts, once: a repeat from the same position changes nothing."""
        ...

    async def stop_judging(self, user_id: str, job_id: str, reason: str) -> None:
        """Note why judging ended early."""
        ...

    async def set_paused(self, user_id: str, job_id: str, *, paused: bool) -> None:
        """Note whether the job waits."""
        ...

    async def close(self, close: CloseInput) -> JobState:
        """Write how the job ended; the first end stands."""
        ...


class RescoreRows(Protocol):
    """The rows that a job revises. All methods raise DependencyUnavailable."""

    async def page(self, job: RescoreInput, state: JobState, until: Position | None, limit: int) -> OutcomePage:
        """Up to `limit` rows of one user behind the job's position, up to and including `until`."""
        ...

    async def totals(self, user_id: str, router_id: str, model: str) -> Sequence[SourceTotal]:
        """Feedback on a router and model within the window."""
        ...

    async def point_updates(self, revisions: Sequence[Revision]) -> Mapping[HistoryScope, Sequence[QualityUpdate]]:
        """What the points of these rows will be worth: means over all requests of the same prompt and model."""
        ...

    async def write(self, revisions: Sequence[Revision]) -> None:
        """Write the qualities, and mark their hours for aggregation. Idempotent."""
        ...


class JobRunner(Protocol):
    """The workflows of jobs. All methods raise DependencyUnavailable."""

    async def start(self, job: RescoreInput) -> None:
        """Start the job's workflow; returns when the service has acknowledged it."""
        ...

    async def pause(self, workflow_id: str) -> None:
        """Let the job wait behind its current slice. Raises NotFound where it does not run any more."""
        ...

    async def resume(self, workflow_id: str) -> None:
        """Let the job go on. Raises NotFound where it does not run any more."""
        ...

    async def cancel(self, workflow_id: str) -> None:
        """End the job; what it has done stays. Raises NotFound where it does not run any more."""
        ...


class QualityHistory(Protocol):
    """The points whose quality changes."""

    async def update_quality(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        """Replace the quality of points; how many exist. Raises DependencyUnavailable."""
        ...

    async def flush(self) -> None:
        """Make the vector store index what was written. Raises DependencyUnavailable."""
        ...
