"""Kinds of columns that tables share."""

from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

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
