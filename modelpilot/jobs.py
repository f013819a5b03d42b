"""Batch jobs on demand: what the API shows of them, and the port that starts and finds them."""

import secrets
from dataclasses import dataclass
from typing import Literal, Protocol

JobStatus = Literal["running", "completed", "failed", "canceled"]


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
