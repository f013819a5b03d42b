"""A batch job as `/api/jobs` shows it, whatever kind it is."""

from typing import Literal

from pydantic import AwareDatetime

from modelpilot.metrics.jobs import JobStatus
from modelpilot.wire.json_model import WireModel


class JobProgressView(WireModel):
    """Units done (rows of a re-scoring, hours of an aggregation), of how many. 0 where nobody knows yet or can be
    asked."""

    done: int
    total: int


class JudgeView(WireModel):
    """What judging came to. `costUsd` has calls whose outcome is not known at their estimate."""

    model: str
    judged: int
    cost_usd: float
    budget_usd: float
    stopped: str | None


class JobView(WireModel):
    """A job of any kind; the fields after `progress` are null where they do not apply or are not known.

    A paused one is `running` with `paused: true`. `scored` rows have a quality.
    """

    id: str
    kind: Literal["rescore", "aggregate"]
    status: JobStatus
    progress: JobProgressView
    paused: bool = False
    scored: int | None = None
    judge: JudgeView | None = None
    error: str | None = None
    workflow_id: str
    created_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
