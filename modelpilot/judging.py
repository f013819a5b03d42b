"""Judging by a model: which answers, at most how many calls, what was spent. The prompt itself: `modelpilot.judge`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from modelpilot.catalogue import ModelSpec
from modelpilot.judge import Verdict
from modelpilot.rescore_ports import JobState
from modelpilot.rescoring import Position, RescoreInput

# A call that was begun this long ago has ended, whoever began it: its total time is a tenth of that.
RETAKE_S = 600.0
CALL_TOTAL_MS = 60_000
# After so many failures in a row the judge is not asked again in this job.
MAX_FAILURES_IN_A_ROW = 5


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """An answer that nobody has judged by this judge and rubric. `model` wrote it."""

    user_id: str
    request_id: str
    created_at: float
    model: str

    @property
    def position(self) -> Position:
        """Where its row comes in the order of a job."""
        return Position(self.user_id, self.created_at, self.request_id)


@dataclass(frozen=True, slots=True)
class JudgeOutcome:
    """What a call to a judge came to. `cost_usd` also where it failed; None: unknown, so the estimate stands."""

    verdict: Verdict | None
    cost_usd: float | None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class JudgeSpent:
    """What a job has spent, calls with unknown outcome at their estimate, and the time since its last call began."""

    cost_usd: float
    since_last_s: float


class JudgementLedger(Protocol):
    """Who may call a judge, and what came of it. All methods raise DependencyUnavailable."""

    async def tasks(self, job: RescoreInput, state: JobState, limit: int) -> Sequence[JudgeTask]:
        """The next answers behind the job's position whose text is stored."""
        ...

    async def reserve(self, job: RescoreInput, task: JudgeTask, estimated_usd: float) -> bool:
        """Take the right to one call. False where it was judged, or somebody else is at it."""
        ...

    async def record(self, job: RescoreInput, task: JudgeTask, outcome: JudgeOutcome) -> None:
        """Write what the call came to."""
        ...

    async def spent(self, job: RescoreInput) -> JudgeSpent:
        """What the job has spent so far."""
        ...


class Pacer:
    """Spaces calls evenly: `rate_per_minute` of them, the first one `since_last_s` after the one before."""

    def __init__(self, rate_per_minute: float, since_last_s: float, now: float) -> None:
        self._gap_s = 60.0 / rate_per_minute
        self._next = now + max(self._gap_s - since_last_s, 0.0)

    def wait_s(self, now: float) -> float:
        """How long until the next call may begin."""
        return max(self._next - now, 0.0)

    def began(self, now: float) -> None:
        """A call has begun."""
        self._next = now + self._gap_s


def same_model(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether both are the same model, under whatever name in the catalogue."""
    return one.id == other.id or (one.provider, one.provider_model) == (other.provider, other.provider_model)
