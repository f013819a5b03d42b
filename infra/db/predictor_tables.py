"""The table of fitted predictors (see `tables.py`)."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


class PredictorRow(SQLModel, table=True):
    """One fit of a router. A refused one has no artifact and is never served; `report` says why."""

    __tablename__ = "predictors"
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    fitted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    rows: int
    accepted: bool
    report: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    artifact: bytes | None
