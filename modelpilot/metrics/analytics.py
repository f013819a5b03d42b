"""What the analytics API reads: single requests, hourly rows and totals, always of one owner. Port and types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from modelpilot.management.resources import Page
from modelpilot.metrics.savings import BaselineSums

# A row as the database gives it, by column name; times are aware.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MetricsFilter:
    """Which rows. Times are half-open: start <= time < end; None is open. `routers`: the only ones that the caller may
    see (None: all, direct calls included). `router_id` "" means direct calls."""

    user_id: str
    routers: frozenset[str] | None = None
    router_id: str | None = None
    model: str | None = None
    provider: str | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a range. `hours_from_metrics` whole hours came from hourly rows, the rest from single requests;
    `aggregated_through`: what was recorded before has been aggregated (None: never)."""

    sums: Mapping[str, float]
    baselines: Mapping[str, BaselineSums] = field(default_factory=dict)
    hours_from_metrics: int = 0
    aggregated_through: datetime | None = None


class MetricsReader(Protocol):
    """All methods raise DependencyUnavailable, and InvalidRequest for a cursor that is none of ours."""

    async def requests(self, wanted: MetricsFilter, cursor: str | None, limit: int) -> Page[Row]:
        """Requests, newest first."""
        ...

    async def hourly(self, wanted: MetricsFilter, cursor: str | None, limit: int) -> Page[Row]:
        """Hourly rows of the hours that begin within the range, newest first."""
        ...

    async def totals(self, wanted: MetricsFilter) -> Totals:
        """Sums over all requests of the range."""
        ...
