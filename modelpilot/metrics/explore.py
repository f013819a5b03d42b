"""What can be asked of many requests at once: a metric, by group and time.

A group "" is that of all requests, or of those without the name (a direct call has
no router, a request that failed before any call no model).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from modelpilot.metrics.requests import NO_FILTER, RequestFilter

Unit = Literal["requests", "share", "USD", "ms", "tokens", "gCO2e", "score", "attempts"]
# How values of several groups and hours become one: added up, averaged over requests, or as percentiles.
Kind = Literal["sum", "mean", "percentile"]
GroupBy = Literal["none", "model", "provider", "router", "type", "purpose", "user", "key", "session", "tag"]
# Names of the API's `groupBy`, by ours; a tag has its own name behind it.
DIMENSION_OF: Mapping[GroupBy, str] = {
    "model": "model",
    "provider": "provider",
    "router": "routerId",
    "type": "requestType",
    "purpose": "purpose",
    "user": "userId",
    "key": "keyId",
    "session": "sessionId",
    "tag": "tag",
}
# Groups without a bound: an answer has those with most requests, and the others as one.
UNBOUNDED: tuple[GroupBy, ...] = ("user", "key", "session", "tag")
MOST_GROUPS = 20

# In the URL and in words, where a filter or a group means that there is no name.
DIRECT = "(direct)"


@dataclass(frozen=True, slots=True)
class Metric:
    """`key` is its name in URLs and CSV; `of` says in words over which requests it is taken."""

    key: str
    label: str
    unit: Unit
    kind: Kind
    of: str = "all requests"


METRICS = (
    Metric("requests", "Requests", "requests", "sum"),
    Metric("completed", "Completed", "share", "mean"),
    Metric("truncated", "Truncated", "share", "mean", "completed requests"),
    Metric("failed", "Failed", "share", "mean"),
    Metric("canceled", "Canceled", "share", "mean"),
    Metric("cost", "Cost", "USD", "sum", "requests of known cost"),
    Metric("latency", "Latency, average", "ms", "mean"),
    Metric("p50", "Latency, median", "ms", "percentile", "completed requests"),
    Metric("p95", "Latency, 95th percentile", "ms", "percentile", "completed requests"),
    Metric("p99", "Latency, 99th percentile", "ms", "percentile", "completed requests"),
    Metric("ttft", "Time to first token, median", "ms", "percentile", "completed requests"),
    Metric("overhead", "Overhead, median", "ms", "percentile", "completed requests"),
    Metric("tokensIn", "Tokens in", "tokens", "sum"),
    Metric("tokensOut", "Tokens out", "tokens", "sum"),
    Metric("fallback", "Fallback share", "share", "mean"),
    Metric("quality", "Quality, average", "score", "mean", "requests with a known quality"),
    Metric("carbon", "Carbon", "gCO2e", "sum", "requests of known carbon"),
    Metric("attempts", "Attempts per request", "attempts", "mean"),
)
METRIC_OF = {metric.key: metric for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Question:
    """`metrics` (keys of `METRIC_OF`) by `group` and buckets of `bucket_s` seconds (None: the scope as one). `tag` is
    the name of the tag that is grouped by."""

    metrics: tuple[str, ...]
    group: GroupBy = "none"
    bucket_s: int | None = None
    wanted: RequestFilter = NO_FILTER
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """Of one metric. None: nobody knows. `unknown` requests should have had a part in it and have no known value."""

    value: float | None
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One group in one bucket. `start_s` (Unix seconds) is the bucket's beginning, 0 without buckets.

    `newest_s` is when its newest request began; from hourly sums it is the beginning of that hour.
    """

    group: str
    start_s: float
    requests: int
    values: tuple[Value, ...]  # in the order of the question's metrics
    newest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Cells by group and time; those without requests are left out.

    `bucket_s` may be wider than asked for, where single requests were too many to read. `averaged`: percentiles are
    means of hourly ones, weighted by completed requests. `sampled`: percentiles are those of so many requests (None: of
    all); sums never are. `latest_request_s`: the tenant's newest, whatever the range. `labels` are the names of groups
    that people do not know by their key.
    """

    cells: tuple[Cell, ...] = ()
    bucket_s: int | None = None
    averaged: bool = False
    sampled: int | None = None
    latest_request_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many requests the cells speak of."""
        return sum(cell.requests for cell in self.cells)
