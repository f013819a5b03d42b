"""Tables of tenants, of what they configure, and of the analytics site's users."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, LargeBinary, desc, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from infra.db.schema.columns import Changed, Owned, json, moment, serial, texts


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
    user_id: str = Field(foreign_key="users.id", ondelete="CASCADE")
    name: str
    prefix: str
    key_hash: bytes = Field(unique=True)
    scopes: list[str] = texts()
    allowed_routers: list[str] | None = texts()
    active: bool
    expires_at: datetime | None = moment()
    last_used_at: datetime | None = moment()
    created_at: datetime = moment(default=True)
    rotated_from: str | None


class RouterRow(Changed, Owned, table=True):
    """A router at its newest version; `body` is its camelCase JSON."""

    __tablename__ = "routers"
    __table_args__ = (Index("routers_by_owner", "user_id", desc("created_at"), desc("id")),)
    body: dict[str, Any] = json()
    version: int


class RouterVersionRow(SQLModel, table=True):
    """A router at every version it ever had; outlives the router."""

    __tablename__ = "router_versions"
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    body: dict[str, Any] = json()
    created_at: datetime = moment(default=True)
    created_by: str


class ModelRow(Changed, Owned, table=True):
    """A model of the catalogue: the seeded one under user_id "", the overrides under their owners."""

    __tablename__ = "models"
    body: dict[str, Any] = json()


class ProviderRow(Changed, Owned, table=True):
    """A provider; its keys are encrypted, and bound to owner, id and position. None is further without a first."""

    __tablename__ = "providers"
    kind: str
    base_url: str | None
    parameters: dict[str, Any] | None = json()
    api_key_encrypted: bytes | None
    further_keys_encrypted: list[bytes] = Field(
        sa_column=Column(ARRAY(LargeBinary), nullable=False, server_default=text("'{}'"))
    )


class AuditRow(SQLModel, table=True):
    """One management change, without secrets."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_by_owner", "user_id", desc("id")),)
    id: int = serial()
    at: datetime = moment(default=True)
    user_id: str
    actor: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None = json()
    after: dict[str, Any] | None = json()


class SiteUserRow(SQLModel, table=True):
    """A user of the site; `user_id` is the tenant, `password_hash` an argon2id PHC string."""

    __tablename__ = "site_users"
    username: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="users.id", ondelete="CASCADE")
    role: str
    password_hash: str
    active: bool
    created_at: datetime = moment(default=True)
    last_login_at: datetime | None = moment()


class SiteSessionRow(SQLModel, table=True):
    """A session; `token_hash` is the SHA-256 of what the cookie holds."""

    __tablename__ = "site_sessions"
    token_hash: bytes = Field(primary_key=True)
    username: str = Field(foreign_key="site_users.username", ondelete="CASCADE", index=True)
    created_at: datetime = moment(default=True)
    seen_at: datetime = moment(default=True)


class SiteLoginAttemptsRow(SQLModel, table=True):
    """Wrong passwords of late. `key` hashes a user name or an address: people type passwords into the wrong field."""

    __tablename__ = "site_login_attempts"
    key: bytes = Field(primary_key=True)
    attempts: int
    window_ends_at: datetime = moment(index=True)
