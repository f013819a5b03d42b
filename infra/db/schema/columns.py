"""Kinds of columns, and columns that several tables have, as fields of SQLModel classes."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Numeric, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

# Not now(): that is when the transaction began.
_NOW = text("clock_timestamp()")


def moment(*, default: bool = False, primary_key: bool = False, index: bool = False) -> Any:
    """A time with its zone; `default`: when the row is inserted."""
    now = {"server_default": _NOW} if default else {}
    return Field(sa_type=DateTime(timezone=True), primary_key=primary_key, index=index, sa_column_kwargs=now)


def big() -> Any:
    """A count that may pass two thousand million."""
    return Field(sa_type=BigInteger)


def money(*, default: bool = False) -> Any:
    """A sum of USD, exact; `default`: 0."""
    return Field(sa_type=Numeric, sa_column_kwargs={"server_default": "0"} if default else {})


def json() -> Any:
    """Any JSON value."""
    return Field(sa_type=JSONB)


def texts() -> Any:
    """A list of strings."""
    return Field(sa_type=ARRAY(String))


def serial() -> Any:
    """A primary key that Postgres counts up."""
    return Field(sa_type=BigInteger, primary_key=True, sa_column_args=[Identity(always=True)])


class OfRequest(SQLModel):
    """The primary key of what belongs to a request, or the beginning of one."""

    user_id: str = Field(primary_key=True)
    request_id: str = Field(primary_key=True)


class Owned(SQLModel):
    """The primary key of what a user names."""

    user_id: str = Field(primary_key=True)
    id: str = Field(primary_key=True)


class Changed(SQLModel):
    """When a row was made and when it was changed last."""

    created_at: datetime = moment(default=True)
    updated_at: datetime = moment(default=True)
