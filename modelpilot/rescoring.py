"""Batch re-scoring: what the workflow and its steps are told, and what they report.

Inputs and reports enter workflow histories: new fields get defaults.
"""

from dataclasses import dataclass, field
from typing import Literal

from modelpilot.quality import Source

JobStatus = Literal["running", "completed", "failed", "canceled"]
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
