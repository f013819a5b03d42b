"""Pure functions of the Overview page: rows → the parts that its callbacks put in place."""

from dataclasses import dataclass

import dash_mantine_components as dmc
import plotly.graph_objects as go

from dashboard.components import command, notice, requests_table, stat_card
from dashboard.config import DashboardConfig
from dashboard.elements import Element
from dashboard.figures import requests_over_time, requests_per_model
from dashboard.formats import (
    UNKNOWN,
    format_age,
    format_count,
    format_ms,
    format_share,
    format_time,
    format_usd,
)
from dashboard.ranges import TimeRange
from modelpilot.analytics import AnalyticsScope, Overview, RequestSummary

RECENT_LIMIT = 20
# Not display: none, since a chart that is drawn without a width keeps a wrong one.
CONTENT_HIDDEN, CONTENT_SHOWN = "mp-hidden", ""


@dataclass(frozen=True, slots=True)
class OverviewView:
    """The filled parts of the page. `content_class` hides all but the notice where there is nothing to show."""

    notice: Element | None
    content_class: str
    as_of: str
    cards: Element
    time_chart: go.Figure
    model_chart: go.Figure
    recent: Element


def overview_view(
    overview: Overview, scope: AnalyticsScope, chosen: TimeRange, config: DashboardConfig
) -> OverviewView:
    """The whole page for what was read in a scope."""
    return OverviewView(
        notice=_empty_notice(overview, chosen),
        content_class=CONTENT_HIDDEN if overview.latest_request_s is None else CONTENT_SHOWN,
        as_of=f"As of {format_time(scope.end_s)} UTC, since {format_time(scope.start_s)}",
        cards=stat_cards(overview, scope.end_s),
        time_chart=requests_over_time(overview.buckets, scope, chosen.bucket_s),
        model_chart=requests_per_model(overview.shares),
        recent=requests_table(overview.recent, config),
    )


def stat_cards(overview: Overview, now_s: float) -> Element:
    """The figures at the top of the page."""
    summary = overview.summary
    cards = [
        stat_card("Requests", format_count(summary.requests), f"{summary.canceled:,} canceled"),
        stat_card("Spend", format_usd(summary.cost_usd), _price_hint(summary)),
        stat_card("Errors", format_share(summary.error_share), f"{summary.failed:,} failed"),
        stat_card("Fallback share", format_share(summary.fallback_share), f"{summary.fallbacks:,} fell back"),
        stat_card("Latency p50", format_ms(summary.latency_p50_ms), "time at the provider"),
        stat_card("Latency p95", format_ms(summary.latency_p95_ms), "time at the provider"),
        stat_card("Overhead p50", format_ms(summary.overhead_p50_ms), "everything but the provider"),
        stat_card("Newest request", _freshness(overview, now_s), "whatever the range"),
    ]
    return dmc.SimpleGrid(cards, cols={"base": 2, "sm": 4}, spacing="sm")


def unavailable_notice(message: str) -> Element:
    """The database is away: the page keeps what it shows and says so."""
    return notice(
        "The database cannot be read",
        f"{message} Figures below, if any, are the last ones read. ",
        "Check it with ",
        command("modelpilot doctor"),
        "; the page tries again while auto-refresh is on.",
        color="red",
    )


def _empty_notice(overview: Overview, chosen: TimeRange) -> Element | None:
    if overview.latest_request_s is None:
        hint = ("Send one to a router, or run ", command("modelpilot demo"), " to fill this page with examples.")
        return notice("No requests yet", *hint, color="blue")
    if overview.summary.requests == 0:
        newest = f"The newest one came at {format_time(overview.latest_request_s)} UTC: choose a longer range, or run "
        return notice(f"No requests in the last {chosen.label}", newest, command("modelpilot demo"), ".", color="blue")
    return None


def _price_hint(summary: RequestSummary) -> str:
    if summary.unknown_cost:
        return f"plus {summary.unknown_cost:,} of unknown price"
    return "all prices known"


def _freshness(overview: Overview, now_s: float) -> str:
    return UNKNOWN if overview.latest_request_s is None else format_age(now_s - overview.latest_request_s)
