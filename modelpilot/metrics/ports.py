"""Who reads metrics: the ports of the analytics API and of the analytics site. All methods raise DependencyUnavailable.

The site is synchronous, since Dash is: its ports are called from several threads at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from modelpilot.learning.replay.frontier import Frontier
from modelpilot.management.resources import Page
from modelpilot.metrics.explore import Answer, Question
from modelpilot.metrics.jobs import JobsRead
from modelpilot.metrics.overview import BY_MODEL, Choices, Overview, SpendQuestion
from modelpilot.metrics.requests import AnalyticsScope, DataSpan, LoggedRequest, Order, RequestDetail, RequestFilter
from modelpilot.metrics.savings import SumsByModel
from modelpilot.metrics.use import DeploymentState, ModelsRead, RouterUse, RouterVersion

# A row as the database gives it, by column name; times are aware.
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a range. `hours_from_metrics` whole hours came from hourly rows, the rest from single requests;
    `aggregated_through`: what was recorded before has been aggregated (None: never)."""

    sums: Mapping[str, float]
    baselines: SumsByModel = field(default_factory=dict)
    hours_from_metrics: int = 0
    aggregated_through: datetime | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """What sums are grouped by: a dimension of `DIMENSIONS`, or the values of a tag."""

    dimension: str
    tag: str = ""


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Sums by the values of what was grouped by ("": none). `hours_from_metrics` as in `Totals`: what hourly rows do
    not have is summed over the single requests that are still there."""

    groups: Sequence[tuple[str, Mapping[str, float]]]
    hours_from_metrics: int = 0


DIMENSIONS = ("model", "provider", "routerId", "userId", "keyId", "sessionId", "purpose", "requestType")


class MetricsReader(Protocol):
    """What the analytics API reads, of one owner. Lists raise InvalidRequest for a cursor that is none of ours."""

    async def requests(self, scope: AnalyticsScope, wanted: RequestFilter, cursor: str | None, limit: int) -> Page[Row]:
        """Requests, newest first."""
        ...

    async def hourly(self, scope: AnalyticsScope, wanted: RequestFilter, cursor: str | None, limit: int) -> Page[Row]:
        """Hourly rows of the hours that begin within the range, newest first. Raises InvalidRequest where hourly rows
        cannot be narrowed to what is wanted, also from `hourly_groups`."""
        ...

    async def hourly_groups(
        self, scope: AnalyticsScope, wanted: RequestFilter, group: Group, cursor: str | None, limit: int
    ) -> Page[Row]:
        """Sums of hours that begin within the range by a dimension, whose value is the `key` of a row; newest first."""
        ...

    async def totals(self, scope: AnalyticsScope, wanted: RequestFilter) -> Totals:
        """Sums over all requests of the range."""
        ...

    async def groups(self, scope: AnalyticsScope, wanted: RequestFilter, group: Group, most: int) -> GroupSums:
        """The same sums by a dimension: up to `most` groups, the dearest first. Where there are more, the last one is
        `modelpilot.metrics.dimensions.OTHER`, which has all others."""
        ...


class SiteReader(Protocol):
    """What the pages of the site read, each method in one snapshot, so that its figures agree with each other.

    A `user_id` of None (also that of a scope) means every tenant, and has to come from the visitor's session.
    """

    def overview(
        self, scope: AnalyticsScope, bucket_s: int, recent_limit: int, spend: SpendQuestion = BY_MODEL
    ) -> Overview:
        """The Overview page of a scope. `bucket_s` is the width of a time bucket."""
        ...

    def choices(self, user_id: str | None) -> Choices:
        """What there is to filter by: names in the requests of the last 90 days."""
        ...

    def tenants(self) -> tuple[str, ...]:
        """Every tenant, by name; for admins only."""
        ...

    def explore(self, scope: AnalyticsScope, question: Question) -> Answer:
        """The answer to a question about many requests."""
        ...

    def requests(
        self, scope: AnalyticsScope, wanted: RequestFilter, order: Order, start: int, end: int
    ) -> tuple[LoggedRequest, ...]:
        """Requests `start` (inclusive) to `end` of the ordered list. Raises ValueError for an unknown order.

        With `wanted.request_id` the times of the scope do not matter: who has an id seldom has the time as well.
        """
        ...

    def request_count(self, scope: AnalyticsScope, wanted: RequestFilter) -> int:
        """How many there are in that list."""
        ...

    def span(self, user_id: str | None) -> DataSpan | None:
        """From when to when there are requests; None: there are none."""
        ...

    def latest_request_s(self, user_id: str | None) -> float | None:
        """When the newest request began (Unix seconds), whatever the range; None: there is none."""
        ...

    def request(self, user_id: str | None, request_id: str, owner: str | None) -> RequestDetail | None:
        """One request; None where there is none that this tenant may see. Several owners may use the same id: `owner`
        picks one."""
        ...

    def models(self, scope: AnalyticsScope, wanted: RequestFilter, bucket_s: int) -> ModelsRead:
        """The page of models and providers; health is that of the last hour before the scope's end."""
        ...

    def routers(self, scope: AnalyticsScope) -> Sequence[RouterUse]:
        """The routers of a scope, the busiest first."""
        ...

    def router_versions(self, user_id: str, router_id: str) -> Sequence[RouterVersion]:
        """The newest MOST_VERSIONS versions, newest first; none where the tenant has no such router."""
        ...

    def jobs(self, user_id: str | None, limit: int) -> JobsRead:
        """The newest `limit` runs of each kind; for every tenant also the figures that are over all of them."""
        ...


# The newest requests that a page replays or draws: half a second of work.
MOST_DECISIONS = 2_000


class DeploymentStates(Protocol):
    """What gateways skip. Raises DependencyUnavailable."""

    async def of(self, user_id: str) -> tuple[DeploymentState, ...]:
        """Of the owner's deployments, as all living gateways say."""
        ...


class Workbench(Protocol):
    """What the site does with the product's own functions. Methods about a router raise NotFound where the
    tenant has none of that name. `user_id` has to come from the visitor's session."""

    def explain(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The decision for a chat body, as `POST /router/{id}/explain` shows it; without exploring, and without what
        only gateways know (open circuit breakers). Raises InvalidRequest, NoCandidate."""
        ...

    def replay(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of `POST /router/{id}/replay` to this body. Raises InvalidRequest."""
        ...

    def frontier(self, user_id: str, router_id: str, start_s: float, end_s: float) -> Frontier:
        """Cost and quality of the models, from the newest logged decisions between two moments (Unix seconds)."""
        ...

    def reset_health(self, user_id: str, actor: str) -> None:
        """Let all deployments of the tenant begin again as healthy, at every gateway, audited under `actor`."""
        ...

    def restore(self, user_id: str, router_id: str, version: int, actor: str) -> int:
        """Make an older version the newest one, audited under `actor` and announced to every gateway; its number (that
        of today's where nothing differs). Raises InvalidRequest where it can no longer be had, e.g. a model is gone."""
        ...
