"""Tables of requests: their rows, calls, payloads and names, and the gateways that serve them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, desc, text
from sqlmodel import Field, SQLModel

from infra.db.schema.columns import OfRequest, Owned, big, json, moment, serial, texts


class RequestRow(OfRequest, table=True):
    """The one terminal row of a request. `recorded_at` finds rows that arrive after their hour was aggregated."""

    __tablename__ = "requests"
    __table_args__ = (
        Index("requests_by_owner", "user_id", desc("created_at"), desc("request_id")),
        Index("requests_by_router", "user_id", "router_id", desc("created_at")),
        # Rows arrive in the order of time, so a block-range index is enough and nearly free to maintain.
        Index("requests_by_time", "created_at", postgresql_using="brin"),
        Index("requests_by_arrival", "recorded_at", postgresql_using="brin"),
        Index("requests_by_prompt", "prompt_hash"),
        Index("requests_by_end_user", "user_id", "end_user", postgresql_where=text("end_user IS NOT NULL")),
        Index(
            "requests_by_tag",
            "tags",
            postgresql_using="gin",
            postgresql_ops={"tags": "jsonb_path_ops"},
            postgresql_where=text("tags <> '{}'::jsonb"),
        ),
        Index(
            "requests_quality_pending", "user_id", "created_at", "request_id", postgresql_where=text("quality_pending")
        ),
    )
    router_id: str | None
    api_key_id: str | None
    config_version: int
    created_at: datetime = moment()
    completed_at: datetime = moment()
    recorded_at: datetime = moment(default=True)
    status: str
    model: str
    provider: str
    latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    cost_usd: float | None
    input_tokens: int = big()
    output_tokens: int = big()
    cached_tokens: int = big()
    reasoning_tokens: int = big()
    success: bool
    finish_reason: str | None
    request_type: str
    quality: float | None
    quality_source: str | None
    quality_confidence: float | None
    checks_quality: float | None
    quality_pending: bool | None  # the vector history does not have this quality yet
    attempts: int
    fallback_used: bool
    degraded: list[str] = texts()
    propensity: float
    explored: bool
    prompt_hash: str
    decision: dict[str, Any] = json()
    tags: dict[str, Any] = json()
    session_id: str | None
    end_user: str | None
    purpose: str = Field(sa_column_kwargs={"server_default": "request"})
    stream: bool
    error_code: str | None
    error_status: int | None
    carbon_g: float | None
    preferred_model: str | None  # here to predicted_carbon_g: `modelpilot.metrics.savings`
    preferred_cost_usd: float | None
    preferred_carbon_g: float | None
    best_model: str | None
    best_cost_usd: float | None
    best_carbon_g: float | None
    cheapest_model: str | None
    cheapest_cost_usd: float | None
    cheapest_carbon_g: float | None
    predicted_cost_usd: float | None
    predicted_carbon_g: float | None
    cache_write_5m_tokens: int | None = big()
    cache_write_1h_tokens: int | None = big()
    audio_input_tokens: int | None = big()
    audio_output_tokens: int | None = big()
    image_input_tokens: int | None = big()
    image_output_tokens: int | None = big()
    web_searches: int | None = big()
    estimated: str | None  # why counts or cost are an estimate
    # The row is what the bill needs of a request that was erased: numbers, under a made-up id.
    erased_at: datetime | None = moment()


class AttemptRow(OfRequest, table=True):
    """One provider call. The provider's message may quote the prompt, so it is encrypted."""

    __tablename__ = "attempts"
    seq: int = Field(primary_key=True)
    model: str
    provider: str
    status: str
    error_type: str | None
    http_status: int | None
    message_encrypted: bytes | None
    latency_ms: float
    ttft_ms: float | None
    cost_usd: float | None
    input_tokens: int = big()
    output_tokens: int = big()
    cached_tokens: int = big()
    reasoning_tokens: int = big()
    started_at: datetime = moment()
    deployment: str = Field(sa_column_kwargs={"server_default": ""})
    cache_write_5m_tokens: int | None = big()
    cache_write_1h_tokens: int | None = big()
    audio_input_tokens: int | None = big()
    audio_output_tokens: int | None = big()
    image_input_tokens: int | None = big()
    image_output_tokens: int | None = big()
    web_searches: int | None = big()
    bill: list[dict[str, Any]] | None = json()
    list_cost_usd: float | None  # by the catalogue, where `cost_usd` is what the provider charged
    estimated: str | None


class OpenRequestRow(OfRequest, table=True):
    """A request that was accepted and whose workflow is not closed yet. `request` is encrypted; the row goes when the
    workflow is closed. `closer` is the process that feeds it to Temporal."""

    __tablename__ = "open_requests"
    __table_args__ = (
        Index("open_requests_unclaimed", "accepted_at", postgresql_where=text("closer IS NULL")),
        Index("open_requests_claimed", "closer", postgresql_where=text("closer IS NOT NULL")),
    )
    owner: str
    request: bytes
    accepted_at: datetime = moment(default=True)
    ended_at: datetime | None = moment()
    handed_over_at: datetime | None = moment()
    closer: str | None


class PayloadRow(OfRequest, table=True):
    """An encrypted request body (`body`) or outcome with its answer (`outcome`), kept for a while."""

    __tablename__ = "payloads"
    kind: str = Field(primary_key=True)
    ciphertext: bytes
    expires_at: datetime = moment(index=True)


class RequestNameRow(SQLModel, table=True):
    """A client-given name of a request, as an HMAC, with the digest of the body it came with."""

    __tablename__ = "request_names"
    __table_args__ = (Index("request_names_by_request", "user_id", "request_id"),)
    user_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name_hash: bytes = Field(primary_key=True)
    body_digest: bytes
    request_id: str
    created_at: datetime = moment(default=True, index=True)


class OutboxRow(SQLModel, table=True):
    """A history point that waits for the vector store, or word of what has to go from it (`point` says which).
    `embedding` is little-endian float32."""

    __tablename__ = "outbox"
    id: int = serial()
    user_id: str
    created_at: datetime = moment(default=True)
    point: dict[str, Any] = json()
    embedding: bytes


class InstanceRow(SQLModel, table=True):
    """A gateway process; alive while its heartbeat is fresh by the database's clock."""

    __tablename__ = "instances"
    id: str = Field(primary_key=True)
    heartbeat_at: datetime = moment(default=True)
    started_at: datetime = moment(default=True)
    kept_since: datetime = moment(default=True)  # since when it has been alive without a gap
    host: str


class DeploymentStateRow(SQLModel, table=True):
    """A deployment that a gateway process skips or only probes. Rows of processes that are not alive say nothing."""

    __tablename__ = "deployment_states"
    user_id: str = Field(primary_key=True)
    instance: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    deployment: str = Field(primary_key=True)
    state: str
    because: str | None
    open_since: datetime | None = moment()
    next_probe_at: datetime = moment()


class ClaimRow(OfRequest, table=True):
    """Which process makes call `seq` of a request."""

    __tablename__ = "claims"
    seq: int = Field(primary_key=True)
    owner: str
    claimed_at: datetime = moment(default=True, index=True)


class ErasedRequestRow(SQLModel, table=True):
    """A request that was erased: whoever still holds it must not write it again. `id_hash` is the SHA-256 of its owner
    and id. The other columns are there until no decision names the request any more."""

    __tablename__ = "erased_requests"
    __table_args__ = (
        Index("erased_requests_named", "user_id", "router_id", postgresql_where=text("request_id IS NOT NULL")),
    )
    id_hash: bytes = Field(primary_key=True)
    erased_at: datetime = moment(default=True, index=True)
    user_id: str | None
    router_id: str | None
    request_id: str | None
    created_at: datetime | None = moment()


class ErasureRow(Owned, table=True):
    """A job that erases requests of `tenant`: those of one end user, or (`kind` "tenant") all of them. `subject` is the
    end user's name, encrypted, until the job has ended; `begun`: its workflow has taken it up."""

    __tablename__ = "erasures"
    __table_args__ = (
        Index("erasures_by_owner", "user_id", desc("created_at"), desc("id")),
        Index("erasures_running", "tenant", postgresql_where=text("status = 'running'")),
    )
    kind: str
    tenant: str
    subject: bytes | None
    status: str
    begun: bool
    total: int = big()
    done: int = big()
    error: str | None
    created_at: datetime = moment(default=True)
    finished_at: datetime | None = moment()
