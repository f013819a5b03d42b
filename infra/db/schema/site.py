"""The tables of the analytics site's users and sessions; `tables.py` has the others, and the rules."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, LargeBinary, String
from sqlmodel import Field, SQLModel

from infra.db.schema.tables import moment


class SiteUserRow(SQLModel, table=True):
    """A user of the site; `user_id` is the tenant, `password_hash` an argon2id PHC string."""

    __tablename__ = "site_users"
    username: str = Field(primary_key=True)
    user_id: str = Field(sa_column=Column(String, ForeignKey("users.id", ondelete="CASCADE"), nullable=False))
    role: str
    password_hash: str
    active: bool
    created_at: datetime = moment(default=True)
    last_login_at: datetime | None = moment(nullable=True)


class SiteSessionRow(SQLModel, table=True):
    """A session; `token_hash` is the SHA-256 of what the cookie holds."""

    __tablename__ = "site_sessions"
    token_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    username: str = Field(
        sa_column=Column(String, ForeignKey("site_users.username", ondelete="CASCADE"), nullable=False, index=True)
    )
    created_at: datetime = moment(default=True)
    seen_at: datetime = moment(default=True)


class SiteLoginAttemptsRow(SQLModel, table=True):
    """Wrong passwords of late. `key` hashes a user name or an address: people type passwords into the wrong field."""

    __tablename__ = "site_login_attempts"
    key: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    attempts: int
    window_ends_at: datetime = moment(index=True)
