"""The table of fitted predictors (see `tables.py`)."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from infra.db.columns import json, moment


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
