"""Tables of what is learnt after an answer: stored texts, feedback, judgements, re-scoring jobs, predictors,
and what routers learn online."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, text
from sqlmodel import Field, SQLModel

from infra.db.schema.columns import Changed, OfRequest, Owned, big, json, moment, serial


class StoredTextRow(OfRequest, table=True):
    """The encrypted prompt and answer of a request whose router stores them, until `expires_at`."""

    __tablename__ = "stored_texts"
    __table_args__ = (Index("stored_texts_by_router", "user_id", "router_id"),)
    router_id: str
    ciphertext: bytes
    expires_at: datetime = moment(index=True)


class FeedbackRow(Changed, OfRequest, table=True):
    """What one source said last about one request. `source` is "" for the API key itself, else an end user's HMAC."""

    __tablename__ = "feedback"
    __table_args__ = (Index("feedback_by_router", "user_id", "router_id", "model", "updated_at"),)
    api_key_id: str = Field(primary_key=True)
    source: str = Field(primary_key=True)
    router_id: str
    model: str
    score: float
    comment_encrypted: bytes | None


class JudgementRow(OfRequest, table=True):
    """One judge's verdict on one answer, reserved (`started`) before the judge is called. `cost_usd` adds up all calls
    for it; `estimated_usd` stands for a call whose cost is not known yet."""

    __tablename__ = "judgements"
    __table_args__ = (Index("judgements_by_job", "job_user_id", "job_id"),)
    judge_model: str = Field(primary_key=True)
    rubric: str = Field(primary_key=True)
    job_user_id: str
    job_id: str
    status: str
    score: float | None
    reason_encrypted: bytes | None
    error_type: str | None
    calls: int
    estimated_usd: float
    cost_usd: float
    started_at: datetime = moment(default=True)
    finished_at: datetime | None = moment()


class RescoreJobRow(Owned, table=True):
    """A re-scoring job: what it was asked for (`spec`), how far it has come, and where it goes on (the cursor)."""

    __tablename__ = "rescore_jobs"
    __table_args__ = (Index("rescore_jobs_by_owner", "user_id", text("created_at DESC"), text("id DESC")),)
    workflow_id: str
    status: str
    paused: bool
    spec: dict[str, Any] = json()
    total: int = big()
    done: int = big()
    scored: int = big()
    sample_below: int | None = big()
    cursor_user: str
    cursor_at: datetime | None = moment()
    cursor_id: str
    judge_stopped: str | None
    error: str | None
    created_at: datetime = moment(default=True)
    finished_at: datetime | None = moment()


class PredictorRow(SQLModel, table=True):
    """One fit of a router. A refused one has no artifact and is never served; `report` says why."""

    __tablename__ = "predictors"
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    fitted_at: datetime = moment()
    rows: int
    accepted: bool
    report: dict[str, Any] = json()
    artifact: bytes | None


class ForgottenRow(SQLModel, table=True):
    """What was learnt and deleted: of a router, a model or an owner ("": any). Outcomes of requests that began before
    `history_at` (null: none) are learnt from no more, and fits that began before `fits_at` are not stored."""

    __tablename__ = "forgotten"
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    history_at: datetime | None = moment()
    fits_at: datetime = moment(default=True)


class LearnerRow(SQLModel, table=True):
    """What a router has learnt online (`modelpilot.learning.online`): sums that answers are added to and taken from.
    `basis` is null while the product's own features are used; `inherited` is what it began with. It goes with its
    router, and its answers with it."""

    __tablename__ = "learners"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "router_id"], ["routers.user_id", "routers.id"], ondelete="CASCADE"),
    )
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    version: int = big()
    began_at: float  # Unix seconds, to the last digit: `learnt` depends on it
    updated_at: float
    basis: bytes | None
    basis_name: str
    basis_prompts: int
    inherited: bytes
    learnt: bytes


class LearntAnswerRow(OfRequest, table=True):
    """An answer that a router's `learnt` has in it, as it has it. `embedding` is little-endian float32."""

    __tablename__ = "learnt_answers"
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "router_id"], ["learners.user_id", "learners.router_id"], ondelete="CASCADE"),
        Index("learnt_answers_by_prompt", "user_id", "router_id", "prompt"),
    )
    router_id: str
    prompt: str
    model: str
    quality: float
    weight: float
    input_tokens: float
    output_tokens: float
    latency_ms: float
    prompt_tokens: float
    at: float
    embedding: bytes


class RegradeRow(SQLModel, table=True):
    """A note that the quality of a request was revised; it goes once the request's router has learnt that."""

    __tablename__ = "regrades"
    id: int = serial()
    user_id: str
    request_id: str
