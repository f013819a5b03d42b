"""What the Overview page of the analytics site shows, and the names that filters offer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelpilot.metrics.explore import GroupBy
from modelpilot.metrics.requests import LoggedRequest
from modelpilot.metrics.savings import Saving

# The site labels the share of requests that no model answered like this.
NO_MODEL = "(none)"


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """Totals of the terminal rows in a scope. Percentiles are of completed requests, None where there are none.

    `cost_usd` adds up the known costs; `unknown_cost` counts the requests whose cost nobody knows, which is never 0.
    """

    requests: int = 0
    failed: int = 0
    canceled: int = 0
    fallbacks: int = 0  # requests that were not answered by the model decided first
    cost_usd: float = 0.0
    unknown_cost: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    overhead_p50_ms: float | None = None
    ttft_p50_ms: float | None = None
    carbon_g: float = 0.0  # of the requests where it is known
    unknown_carbon: int = 0
    carbon_range_g: tuple[float, float] | None = None  # None: no model's figure has a range
    sampled: int | None = None  # percentiles are those of so many requests; None: of all
    truncated: int = 0  # completed without success: cut by a limit or a filter, or empty

    @property
    def completed(self) -> int:
        """Requests that were answered, truncated answers included."""
        return self.requests - self.failed - self.canceled

    @property
    def failed_share(self) -> float | None:
        """Failed requests per request in [0, 1]; None without any request. A cancellation is not an error."""
        return self.failed / self.requests if self.requests else None

    @property
    def fallback_share(self) -> float | None:
        """Requests that fell back, per request in [0, 1]; None without any request."""
        return self.fallbacks / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class ModelShare:
    """What one model had of a scope."""

    model: str
    requests: int
    failed: int
    cost_usd: float
    carbon_g: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestBucket:
    """Requests that arrived in [start_s, start_s + width). Unix seconds, a multiple of the width.

    `cost_usd` adds up the known costs of what was paid for then; `saved_usd` is what was saved, by baseline.
    """

    start_s: float
    requests: int
    failed: int
    cost_usd: float = 0.0
    unknown_cost: int = 0
    saved_usd: Mapping[str, float] = field(default_factory=dict)


# What spend can be split by, beside `tag.NAME`.
SPEND_BY: tuple[GroupBy, ...] = ("model", "router", "provider", "key", "user", "purpose")
MOST_SHARES = 10


@dataclass(frozen=True, slots=True)
class SpendQuestion:
    """`by` what of `SPEND_BY` spend is split, or `tag.NAME`. `month`: when the viewer's calendar month began, and now
    (Unix seconds; None: no forecast)."""

    by: str = "model"
    month: tuple[float, float] | None = None


BY_MODEL = SpendQuestion()


@dataclass(frozen=True, slots=True)
class Spend:
    """What a set of requests cost: the sum of the known costs, and how many have none."""

    cost_usd: float = 0.0
    unknown_cost: int = 0
    requests: int = 0


NO_SPEND = Spend()


@dataclass(frozen=True, slots=True)
class SpendShare:
    """What one value of a dimension cost in a range (`spend`), and in the range before it of the same length. `value`
    "": those without one; None: all `members` beside the largest. `name` is how a key is called."""

    value: str | None
    spend: Spend
    before: Spend = NO_SPEND
    members: int = 1
    name: str | None = None


@dataclass(frozen=True, slots=True)
class MonthSpend:
    """What was spent in a calendar month until now, and in the `recent_days` before now: up to seven, as long as there
    have been requests."""

    so_far: Spend
    recent: Spend
    recent_days: float


FORECAST_DAYS = 7.0
_LEAST_DAYS = 1.0


def forecast_usd(month: MonthSpend, days_left: float) -> float | None:
    """The spend of the whole month: what was spent so far, and for the days that are left the mean of the recent ones.
    None: there has been less than a day of requests to take a mean of."""
    if month.recent_days < _LEAST_DAYS:
        return None
    return month.so_far.cost_usd + month.recent.cost_usd / month.recent_days * days_left


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the Overview page, read in one snapshot so that its figures agree with each other.

    `latest_request_s` is when the newest request of the tenant arrived, whatever the range; None: never.
    Buckets without requests are left out, `shares` is sorted by requests, `recent` has the newest first.
    `aggregated_through_s`: what was recorded before is in the hourly sums (None: never aggregated).
    `before` is the range before it of the same length, `spend_by` has the dearest first and the rest last.
    `first_request_s` is when the tenant's first request arrived.
    """

    summary: RequestSummary = field(default_factory=RequestSummary)
    shares: tuple[ModelShare, ...] = ()
    buckets: tuple[RequestBucket, ...] = ()
    recent: tuple[LoggedRequest, ...] = ()
    latest_request_s: float | None = None
    savings: tuple[Saving, ...] = ()
    aggregated_through_s: float | None = None
    before: Spend = NO_SPEND
    spend_by: tuple[SpendShare, ...] = ()
    month: MonthSpend | None = None
    first_request_s: float | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """The names that filters offer, each sorted. `users` and `tag_values` (a tag and its value) are those with most
    requests, `keys` an id and a name, `tags` those that are dimensions."""

    routers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()  # for admins only
    users: tuple[str, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    tag_values: tuple[tuple[str, str], ...] = ()
