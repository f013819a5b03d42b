"""What the analytics API shows: single requests, hourly rows, and totals with what follows from them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, field_validator

from api.routes.resource import PageView
from modelpilot.chat.body import TagName
from modelpilot.metrics.dimensions import BUILT_IN, MOST_TAGS, MOST_VALUES, ChosenTags
from modelpilot.metrics.ports import Row, Totals
from modelpilot.metrics.savings import STATEMENT, Saving, prediction_ratio, savings
from modelpilot.wire.json_model import WireModel


class Tokens(WireModel):
    """Token counts; cached and reasoning tokens are parts of input and output."""

    input: int
    output: int
    total: int
    cached: int
    reasoning: int


class RequestItem(WireModel):
    """One request. `routerId` is null where a model was named directly; `costUsd` null is unknown, never free."""

    request_id: str
    router_id: str | None
    timestamp: AwareDatetime
    model: str
    provider: str
    latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    cost_usd: float | None
    tokens: Tokens
    success: bool
    request_type: str
    quality: float | None
    attempts: int
    degraded: list[str]
    status: str
    finish_reason: str | None
    error_code: str | None
    fallback_used: bool
    explored: bool
    propensity: float
    config_version: int
    quality_source: str | None
    carbon_g: float | None
    stream: bool
    session_id: str | None
    api_key_id: str | None
    prompt_hash: str
    purpose: str
    tags: dict[str, Any]
    user_id: str | None
    key_id: str | None
    estimated: str | None


class HourlyItem(WireModel):
    """One hour (UTC) of one router, model and provider. Percentiles and times to first token are of completed requests;
    `routerId` is empty for requests that named a model directly."""

    hour: AwareDatetime
    router_id: str
    model: str
    provider: str
    requests: int
    success_count: int
    success_rate: float
    completed_count: int
    truncated_count: int
    total_latency_ms: float
    avg_latency_ms: float
    total_cost_usd: float
    avg_cost_usd: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    input_tokens: int
    output_tokens: int
    updated_at: AwareDatetime
    p99_latency_ms: float | None
    p50_ttft_ms: float | None
    p50_overhead_ms: float | None
    cached_tokens: int
    reasoning_tokens: int
    failed_count: int
    canceled_count: int
    fallback_count: int
    degraded_count: int
    explored_count: int
    attempt_count: int
    known_cost_count: int
    unknown_cost_count: int
    total_carbon_g: float
    unknown_carbon_count: int
    quality_count: int
    avg_quality: float | None


class HourlyGroupItem(WireModel):
    """One hour (UTC) of one value of what was grouped by; "" stands for the requests that have none, `(other)` for
    those of values that an hour has no room for. Costs count whatever they were paid for, the rest only requests."""

    hour: AwareDatetime
    key: str
    requests: int
    success_count: int
    success_rate: float
    completed_count: int
    truncated_count: int
    total_latency_ms: float
    avg_latency_ms: float
    total_cost_usd: float
    avg_cost_usd: float | None
    input_tokens: int
    output_tokens: int
    updated_at: AwareDatetime
    cached_tokens: int
    reasoning_tokens: int
    failed_count: int
    canceled_count: int
    fallback_count: int
    degraded_count: int
    explored_count: int
    attempt_count: int
    known_cost_count: int
    unknown_cost_count: int
    total_carbon_g: float
    unknown_carbon_count: int
    quality_count: int
    avg_quality: float | None


class SavingView(Saving):
    """Baseline less actual over the same requests; shares are of the baseline, null where nothing is known."""


class Savings(WireModel):
    """Savings against each baseline. `completed`: what there was to compare. `actualByPredictedCost`: how far the
    predictions were off for the models that answered."""

    completed: int
    baselines: list[SavingView]
    actual_by_predicted_cost: float | None
    statement: str


class GroupView(WireModel):
    """One value of what was grouped by; "" stands for the rows that have none. Costs count whatever they were paid
    for, `requests` and rates only requests."""

    key: str
    requests: int
    success_rate: float | None
    completed_count: int
    truncated_count: int
    failed_count: int
    canceled_count: int
    total_cost_usd: float
    unknown_cost_count: int
    avg_latency_ms: float | None
    input_tokens: int
    output_tokens: int
    total_carbon_g: float
    avg_quality: float | None


class Summary(WireModel):
    """Totals of a range; with `groupBy` its `groups` as well, the dearest first. What was recorded after
    `aggregatedThrough` may be missing from hours that are long over. Of `hoursFromMetrics` and
    `groupHoursFromMetrics` whole hours, totals and groups come from hourly metrics, else from the single requests that
    are still there."""

    from_: AwareDatetime | None = Field(alias="from")
    to: AwareDatetime | None
    requests: int
    success_count: int
    success_rate: float | None
    completed_count: int
    truncated_count: int
    failed_count: int
    canceled_count: int
    fallback_count: int
    degraded_count: int
    explored_count: int
    attempt_count: int
    total_latency_ms: float
    avg_latency_ms: float | None
    total_cost_usd: float
    avg_cost_usd: float | None
    unknown_cost_count: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_carbon_g: float
    unknown_carbon_count: int
    quality_count: int
    avg_quality: float | None
    savings: Savings
    hours_from_metrics: int
    aggregated_through: AwareDatetime | None
    groups: list[GroupView] | None = None
    group_hours_from_metrics: int | None = None


class RequestListing(PageView[RequestItem]):
    """Requests, newest first."""


class HourlyListing(PageView[HourlyItem | HourlyGroupItem]):
    """Hourly metrics, newest first; with `groupBy` by its values."""


class DimensionsBody(WireModel):
    """The tags that are dimensions of the hourly metrics."""

    tags: Annotated[list[TagName], Field(max_length=MOST_TAGS)]

    @field_validator("tags")
    @classmethod
    def _once(cls, tags: list[str]) -> list[str]:
        if len(set(tags)) < len(tags):
            raise ValueError("a tag is there more than once")
        return tags


class DimensionsView(DimensionsBody):
    """What hourly metrics can be grouped and filtered by, beside router, model and provider: `builtIn`, and `tags` as
    `tag.NAME`. `pendingHours` do not have all of them yet. An hour has `mostValues` of each; all others are `(other)`.
    """

    built_in: list[str]
    pending_hours: int
    most_values: int


def request_view(row: Row) -> RequestItem:
    """A request out of its row."""
    same = {name: row[name] for name in RequestItem.model_fields if name in row}
    inp, out, cached, reasoning = (row[f"{kind}_tokens"] for kind in ("input", "output", "cached", "reasoning"))
    tokens = Tokens(input=inp, output=out, total=inp + out, cached=cached, reasoning=reasoning)
    whose = {"user_id": row["end_user"], "key_id": row["api_key_id"]}
    return RequestItem(**{**same, **whose}, timestamp=_utc(row["created_at"]), tokens=tokens)


def hourly_view(row: Row) -> HourlyItem:
    """An hourly row."""
    return HourlyItem(**_hour_fields(HourlyItem, row))


def hourly_group_view(row: Row) -> HourlyGroupItem:
    """An hour of a group."""
    return HourlyGroupItem(**_hour_fields(HourlyGroupItem, row))


def _hour_fields(model: type[WireModel], row: Row) -> dict[str, Any]:
    completed = row["requests"] - row["failed_count"] - row["canceled_count"]
    known = {**row, "completed_count": completed, "truncated_count": completed - row["success_count"]}
    same = {name: _plain(known[name], field.annotation) for name, field in model.model_fields.items()}
    return {**same, "hour": _utc(row["hour"]), "updated_at": _utc(row["updated_at"])}


def dimensions_view(chosen: ChosenTags) -> DimensionsView:
    """An owner's choice."""
    return DimensionsView(
        tags=list(chosen.tags),
        built_in=list(BUILT_IN),
        pending_hours=chosen.pending_hours,
        most_values=MOST_VALUES,
    )


def summary_view(start: datetime | None, end: datetime | None, totals: Totals) -> Summary:
    """Totals from `start` to `end` (None: open), with what follows from them."""
    sums = totals.sums
    reals = ("total_latency_ms", "total_cost_usd", "total_carbon_g")
    shown = [name for name in Summary.model_fields if name in sums]
    values: dict[str, Any] = {name: float(sums[name]) if name in reals else int(sums[name]) for name in shown}
    return Summary(
        **values,
        from_=start,
        to=end,
        total_tokens=int(sums["input_tokens"] + sums["output_tokens"]),
        success_rate=_ratio(sums["success_count"], sums["requests"]),
        avg_latency_ms=_ratio(sums["total_latency_ms"], sums["requests"]),
        avg_cost_usd=_ratio(sums["total_cost_usd"], sums["known_cost_count"]),
        avg_quality=_ratio(sums["quality_sum"], sums["quality_count"]),
        savings=Savings(
            completed=int(sums["completed_count"]),
            baselines=[SavingView(**dict(saving)) for saving in savings(totals.baselines)],
            actual_by_predicted_cost=prediction_ratio(totals.baselines),
            statement=STATEMENT,
        ),
        hours_from_metrics=totals.hours_from_metrics,
        aggregated_through=None if totals.aggregated_through is None else _utc(totals.aggregated_through),
    )


_OUTCOMES = ("completed_count", "truncated_count", "failed_count", "canceled_count")


def summary_lines(summary: Summary) -> list[Row]:
    """The lines of a summary's CSV: one for each group, or one with the totals and each baseline's savings."""
    if summary.groups is not None:
        return [group.to_wire() for group in summary.groups]
    wire, left_out = summary.to_wire(), ("groups", "groupHoursFromMetrics", "savings")
    line = {name: value for name, value in wire.items() if name not in left_out}
    for saving in summary.savings.baselines:
        figures = saving.to_wire()
        name = figures.pop("baseline")
        line |= {f"{name}.{figure}": value for figure, value in figures.items()}
    return [line]


def group_view(key: str, sums: Mapping[str, float]) -> GroupView:
    """One group out of its sums."""
    return GroupView(
        key=key,
        requests=int(sums["requests"]),
        success_rate=_ratio(sums["success_count"], sums["requests"]),
        **{name: int(sums[name]) for name in _OUTCOMES},
        total_cost_usd=float(sums["total_cost_usd"]),
        unknown_cost_count=int(sums["unknown_cost_count"]),
        avg_latency_ms=_ratio(sums["total_latency_ms"], sums["requests"]),
        input_tokens=int(sums["input_tokens"]),
        output_tokens=int(sums["output_tokens"]),
        total_carbon_g=float(sums["total_carbon_g"]),
        avg_quality=_ratio(sums["quality_sum"], sums["quality_count"]),
    )


def _plain(value: Any, kind: Any) -> Any:
    """A figure as JSON has it: Postgres gives numeric for sums of bigint."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if kind is int else float(value)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
