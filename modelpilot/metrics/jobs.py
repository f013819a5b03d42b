"""Scheduled work and batch jobs: what the analytics site shows of them, and jobs on demand as the API starts them.

Times are Unix seconds. On the site, figures over all tenants are None or empty for anybody who may see one tenant only.
"""

import secrets
from dataclasses import dataclass
from typing import Literal, Protocol

JobStatus = Literal["running", "completed", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """A Temporal Schedule: at `offset_s` after every multiple of `every_s` since the epoch, UTC."""

    id: str
    title: str
    every_s: float
    offset_s: float = 0.0

    def next_run(self, now_s: float) -> float:
        """When it is due after `now_s`, unless it is paused."""
        return ((now_s - self.offset_s) // self.every_s + 1) * self.every_s + self.offset_s


@dataclass(frozen=True, slots=True)
class HourRun:
    """The last aggregation of one hour."""

    hour: float
    requests: int
    finished_at: float
    duration_ms: float


@dataclass(frozen=True, slots=True)
class AggregationProgress:
    """How far the hourly metrics and the export are. `pending_hours` wait to be computed (again), since `oldest_note`;
    `late_hours` of them are over, so that they are a backfill and not the hour in progress."""

    aggregated_through: float | None = None
    exported_through: float | None = None
    pending_hours: int = 0
    late_hours: int = 0
    oldest_note: float | None = None


@dataclass(frozen=True, slots=True)
class ExportTotals:
    """The warehouse files. `due` have to be written (again)."""

    files: int = 0
    due: int = 0
    requests: int = 0
    bytes: int = 0
    last_written_at: float | None = None


@dataclass(frozen=True, slots=True)
class FitRun:
    """One fit of a router's predictor."""

    user_id: str
    router_id: str
    version: int
    fitted_at: float
    rows: int
    accepted: bool
    refused_because: str | None


@dataclass(frozen=True, slots=True)
class RescoreRun:
    """One re-scoring job: `done` of `total` rows looked at, `scored` of them given another quality."""

    user_id: str
    id: str
    workflow_id: str
    status: str
    paused: bool
    total: int
    done: int
    scored: int
    created_at: float
    finished_at: float | None
    judge_stopped: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class JobsRead:
    """Everything on the Jobs page, in one snapshot. `vectors_waiting` counts outcomes that Milvus does not have yet."""

    schedules: tuple[ScheduleFacts, ...] = ()
    progress: AggregationProgress = AggregationProgress()
    hours: tuple[HourRun, ...] = ()
    export: ExportTotals | None = None
    vectors_waiting: int = 0
    fits: tuple[FitRun, ...] = ()
    rescores: tuple[RescoreRun, ...] = ()


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Answer to the query `progress` that every job's workflow has: units done, of those known so far."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its owner sees it. `progress` is None where no worker could be asked in time; times are Unix seconds."""

    id: str
    status: JobStatus
    progress: JobProgress | None
    created_at: float | None = None
    finished_at: float | None = None


class Jobs(Protocol):
    """Jobs of one owner: another tenant's do not exist. All methods raise DependencyUnavailable."""

    async def start_aggregation(self, user_id: str) -> Job:
        """Aggregate all that is due now, the hour in progress included."""
        ...

    async def find(self, user_id: str, job_id: str) -> Job:
        """Raises NotFound."""
        ...


def new_job_id(kind: str) -> str:
    """`<kind>-<16 hex digits>`: says what it is, and cannot be guessed."""
    return f"{kind}-{secrets.token_hex(8)}"


def job_workflow_id(user_id: str, job_id: str) -> str:
    """The Temporal workflow id of a job. The owner is in it, so that nobody finds another tenant's."""
    return f"job/{user_id}/{job_id}"
