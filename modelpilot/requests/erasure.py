"""What goes when people, tenants, routers, models and requests are deleted: from the ledger, and from what was learnt.

`EraseInput`, `EraseReport` and `EraseProgress` enter workflow histories: new fields get defaults. No name of anybody is
in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from modelpilot.metrics.jobs import JobStatus
from modelpilot.requests.records import RequestKey


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Which points of an owner go: those of a router, of a model at every router, or ("" and "") all of them."""

    user_id: str
    router_id: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class PointTotals:
    """What a point is worth by the `requests` that are left of it; 0: the point goes.

    Means are over all of them, or over the `*_count` that have the figure (see `HistoryPoint`). `request_id` is the
    newest of them, `timestamp` its end, Unix seconds.
    """

    point_id: str
    model: str
    requests: int
    request_id: str = ""
    quality: float = 0.0
    quality_count: float = 0.0
    cost_usd: float = 0.0
    cost_count: float = 0.0
    ttft_ms: float = 0.0
    ttft_count: float = 0.0
    latency_ms: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    timestamp: float = 0.0


# Of an end user, within a tenant; or of a tenant, with its configuration.
ErasureKind = Literal["end_user", "tenant"]


@dataclass(frozen=True, slots=True)
class EraseInput:
    """A job: `user_id` is the tenant that asked for it. Whom it is about is in the database, until the job has ended.

    A run continues as new after `slices_per_run` slices.
    """

    user_id: str
    job_id: str
    slices_per_run: int = 200

    @property
    def workflow_id(self) -> str:
        """The Temporal workflow id of the job."""
        return erase_workflow_id(self.user_id, self.job_id)


def erase_workflow_id(user_id: str, job_id: str) -> str:
    """The Temporal workflow id of a job that erases."""
    return f"erase/{user_id}/{job_id}"


@dataclass(frozen=True, slots=True)
class EraseProgress:
    """Requests erased, of those known so far."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class EraseReport:
    """What a slice has come to. `waiting`: what is left runs still, or its workflow is not closed yet."""

    progress: EraseProgress
    finished: bool
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class EraseClose:
    """How the job ended."""

    job: EraseInput
    status: JobStatus
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """A job as its owner sees it. Times are Unix seconds."""

    user_id: str
    id: str
    status: JobStatus
    progress: EraseProgress
    created_at: float
    finished_at: float | None
    error: str | None

    @property
    def workflow_id(self) -> str:
        """The Temporal workflow id of the job."""
        return erase_workflow_id(self.user_id, self.id)


RequestState = Literal["unknown", "open", "closed"]


class ErasureStore(Protocol):
    """Requests and jobs in the ledger, as erasing sees them. All methods raise DependencyUnavailable."""

    async def state(self, key: RequestKey) -> RequestState:
        """Whether the request is unknown, runs (or its workflow is not closed yet), or is closed."""
        ...

    async def erase(self, key: RequestKey, actor: str) -> bool:
        """Erase a closed request, in one transaction; False where there is none (any more)."""
        ...

    async def add(self, user_id: str, kind: ErasureKind, subject: str, actor: str) -> Erasure:
        """Make a job: for an end user of `user_id`, or for the tenant `subject`, whose keys and configuration go at
        once. Raises NotFound for a tenant that is not there, Conflict for one that cannot be deleted."""
        ...

    async def job(self, user_id: str, job_id: str) -> Erasure:
        """The job as it is now. Raises NotFound."""
        ...

    async def open(self, job: EraseInput) -> EraseProgress:
        """Take the job up: count its requests."""
        ...

    async def due(self, job: EraseInput, limit: int) -> Sequence[RequestKey]:
        """The next closed requests of the job."""
        ...

    async def erase_batch(self, job: EraseInput, keys: Sequence[RequestKey]) -> EraseProgress:
        """Erase these, and count them, in one transaction."""
        ...

    async def waits(self, job: EraseInput) -> bool:
        """Whether requests that the job is about may still run."""
        ...

    async def close(self, close: EraseClose) -> EraseProgress:
        """What is left of the job's subject besides requests goes; write how the job ended."""
        ...

    async def waiting(self) -> Sequence[EraseInput]:
        """Jobs whose workflow nobody has seen for a while."""
        ...


class Histories(Protocol):
    """What the durable execution remembers of requests."""

    async def forget(self, key: RequestKey) -> None:
        """Delete the request's workflow with its history, if there is one. Raises DependencyUnavailable."""
        ...


class ErasureRunner(Protocol):
    """Carries jobs out."""

    async def start(self, job: EraseInput) -> None:
        """Begin the job, at most once. Raises DependencyUnavailable."""
        ...
