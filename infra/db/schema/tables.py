"""Every table. Rows belong to a user (`user_id`), which is therefore part of every primary key that a client may name.

SQL that reads and writes them lives beside this file; changes here need a migration (`docs/contributing`), and a test
compares both.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Identity, Index, LargeBinary, String, desc, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

# Kinds of columns that tables share.

# Not now(): that is when the transaction began.
NOW = text("clock_timestamp()")


def moment(
    *, nullable: bool = False, default: bool = False, primary_key: bool = False, index: bool | None = None
) -> Any:
    """A time with its zone; `default`: when the row is inserted."""
    now = NOW if default else None
    kind = DateTime(timezone=True)
    return Field(sa_column=Column(kind, nullable=nullable, primary_key=primary_key, server_default=now, index=index))


def big(*, nullable: bool = False) -> Any:
    """A count that may pass two thousand million."""
    return Field(sa_column=Column(BigInteger, nullable=nullable))


def json(*, nullable: bool = False) -> Any:
    """Any JSON value."""
    return Field(sa_column=Column(JSONB, nullable=nullable))


def _texts(*, nullable: bool = False) -> Any:
    return Field(sa_column=Column(ARRAY(String), nullable=nullable))


def _serial() -> Any:
    return Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))


class UserRow(SQLModel, table=True):
    """A tenant."""

    __tablename__ = "users"
    id: str = Field(primary_key=True)
    operator: bool
    created_at: datetime = moment(default=True)


class ApiKeyRow(SQLModel, table=True):
    """An API key; `key_hash` is the SHA-256 of the whole secret."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("api_keys_by_owner", "user_id", desc("created_at"), desc("id")),)
    id: str = Field(primary_key=True)
    user_id: str = Field(sa_column=Column(String, ForeignKey("users.id", ondelete="CASCADE"), nullable=False))
    name: str
    prefix: str
    key_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    scopes: list[str] = _texts()
    allowed_routers: list[str] | None = _texts(nullable=True)
    active: bool
    expires_at: datetime | None = moment(nullable=True)
    last_used_at: datetime | None = moment(nullable=True)
    created_at: datetime = moment(default=True)
    rotated_from: str | None


class RouterRow(SQLModel, table=True):
    """A router at its newest version; `body` is its camelCase JSON."""

    __tablename__ = "routers"
    __table_args__ = (Index("routers_by_owner", "user_id", desc("created_at"), desc("id")),)
    user_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    body: dict[str, Any] = json()
    version: int
    created_at: datetime = moment(default=True)
    updated_at: datetime = moment(default=True)


class RouterVersionRow(SQLModel, table=True):
    """A router at every version it ever had; outlives the router."""

    __tablename__ = "router_versions"
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    body: dict[str, Any] = json()
    created_at: datetime = moment(default=True)
    created_by: str


class ModelRow(SQLModel, table=True):
    """A model of the catalogue: the seeded one under user_id "", the overrides under their owners."""

    __tablename__ = "models"
    user_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    body: dict[str, Any] = json()
    created_at: datetime = moment(default=True)
    updated_at: datetime = moment(default=True)


class ProviderRow(SQLModel, table=True):
    """A provider; its keys are encrypted, and bound to owner, id and position. None is further without a first."""

    __tablename__ = "providers"
    user_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    kind: str
    base_url: str | None
    api_key_encrypted: bytes | None
    further_keys_encrypted: list[bytes] = Field(
        sa_column=Column(ARRAY(LargeBinary), nullable=False, server_default=text("'{}'"))
    )
    created_at: datetime = moment(default=True)
    updated_at: datetime = moment(default=True)


class RequestRow(SQLModel, table=True):
    """The one terminal row of a request. `recorded_at` finds rows that arrive after their hour was aggregated."""

    __tablename__ = "requests"
    __table_args__ = (
        Index("requests_by_owner", "user_id", desc("created_at"), desc("request_id")),
        Index("requests_by_router", "user_id", "router_id", desc("created_at")),
        # Rows arrive in the order of time, so a block-range index is enough and nearly free to maintain.
        Index("requests_by_time", "created_at", postgresql_using="brin"),
        Index("requests_by_arrival", "recorded_at", postgresql_using="brin"),
        Index("requests_by_prompt", "prompt_hash"),
        Index(
            "requests_quality_pending", "user_id", "created_at", "request_id", postgresql_where=text("quality_pending")
        ),
    )
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
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
    degraded: list[str] = _texts()
    propensity: float
    explored: bool
    prompt_hash: str
    decision: dict[str, Any] = json()
    features: dict[str, Any] = json()
    tags: dict[str, Any] = json()
    session_id: str | None
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


class AttemptRow(SQLModel, table=True):
    """One provider call. The provider's message may quote the prompt, so it is encrypted."""

    __tablename__ = "attempts"
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
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
    deployment: str = Field(sa_column=Column(String, nullable=False, server_default=""))


class PayloadRow(SQLModel, table=True):
    """An encrypted request body (`body`) or outcome with its answer (`outcome`), kept for a while."""

    __tablename__ = "payloads"
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    ciphertext: bytes
    expires_at: datetime = moment(index=True)


class RequestNameRow(SQLModel, table=True):
    """A client-given name of a request, as an HMAC, with the digest of the body it came with."""

    __tablename__ = "request_names"
    user_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    name_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    body_digest: bytes
    request_id: str
    created_at: datetime = moment(default=True, index=True)


class AuditRow(SQLModel, table=True):
    """One management change, without secrets."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_by_owner", "user_id", desc("id")),)
    id: int = _serial()
    at: datetime = moment(default=True)
    user_id: str
    actor: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None = json(nullable=True)
    after: dict[str, Any] | None = json(nullable=True)


class OutboxRow(SQLModel, table=True):
    """A history point that waits for the vector store. `embedding` is little-endian float32."""

    __tablename__ = "outbox"
    id: int = _serial()
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
    host: str


class ClaimRow(SQLModel, table=True):
    """Which instance took a request over from a dead one."""

    __tablename__ = "claims"
    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)
    owner: str
    claimed_at: datetime = moment(default=True, index=True)
