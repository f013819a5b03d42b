"""The Overview page: what was spent and saved in a range, and what the platform did for it, at a glance."""

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash import Dash, Output, html

from dashboard.config import DashboardConfig
from dashboard.frame.elements import (
    Element,
    chart_panel,
    dimmed,
    no_requests_notice,
    outside_link,
    page_link,
    panel,
    stat_card,
    stat_grid,
    status_badges,
)
from dashboard.frame.filters import control_row
from dashboard.frame.formats import UNKNOWN, format_age, format_grams, format_ms, format_share, format_usd
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.tables import Table, csv_button, labelled_table, register_csv
from dashboard.frame.urls import detail_link, requests_link, workflow_url
from dashboard.frame.zones import Zone
from dashboard.pages.overview.money import (
    BY,
    baseline_of,
    money_cards,
    savings_table,
    spend_by_csv,
    spend_by_table,
    spend_over_time,
    spend_question,
    spend_time_csv,
    spend_time_table,
)
from dashboard.pages.overview.traffic import model_table, requests_over_time, requests_per_model, time_table
from modelpilot.metrics.overview import NO_MODEL, Overview, RequestSummary
from modelpilot.metrics.requests import LoggedRequest

REQUEST_COLUMNS = ("Time", "Router", "Model", "Latency", "Cost", "Status", "Workflow")
RECENT_LIMIT = 10

FRAME = PageFrame("overview", "Overview", controls=(BY,), skeleton=(92, 320, 92, 320))
MONEY = FRAME.id("money")
SPEND_CHART, SPEND_TABLE = FRAME.id("spend-chart"), FRAME.id("spend-table")
SPEND_BY = FRAME.id("spend-by")
CARDS = FRAME.id("cards")
TIME_CHART = FRAME.id("time-chart")
MODEL_CHART = FRAME.id("model-chart")
TIME_TABLE = FRAME.id("time-table")
MODEL_TABLE = FRAME.id("model-table")
SAVINGS = FRAME.id("savings")
RECENT = FRAME.id("recent")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    content = [
        html.Div(id=MONEY),
        _side_by_side(
            chart_panel("Spend and savings over time", SPEND_CHART, SPEND_TABLE, csv_button(FRAME, "spend-csv")),
            panel(
                "Top ten by spend",
                control_row(FRAME.name, FRAME.controls, search),
                html.Div(id=SPEND_BY),
                html.Div(className="mp-gap"),
                csv_button(FRAME),
            ),
        ),
        html.Div(id=CARDS),
        _side_by_side(
            chart_panel("Requests over time", TIME_CHART, TIME_TABLE),
            chart_panel("Requests per model", MODEL_CHART, MODEL_TABLE),
        ),
        panel("Savings", html.Div(id=SAVINGS)),
        html.Div(className="mp-gap"),
        panel("Most recent requests", html.Div(id=RECENT)),
    ]
    return FRAME.layout(context, search, *content, with_controls=False)


def _side_by_side(*panels: Element) -> Element:
    return dmc.SimpleGrid(list(panels), cols={"base": 1, "lg": 2}, my="md")


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    for chart in (SPEND_CHART, TIME_CHART, MODEL_CHART):
        FRAME.follow_points(app, chart)

    def read(asked: Asked) -> Overview:
        return context.reader.overview(asked.scope, asked.window.bucket_s, RECENT_LIMIT, spend_question(asked))

    def over_time(asked: Asked) -> Table:
        return spend_time_csv(read(asked), asked)

    def by_dimension(asked: Asked) -> Table:
        return spend_by_csv(read(asked), spend_question(asked).by)

    register_csv(app, context, FRAME, "modelpilot-spend-over-time.csv", over_time, "spend-csv")
    register_csv(app, context, FRAME, "modelpilot-spend.csv", by_dimension)

    @FRAME.fills(
        app,
        context,
        Output(MONEY, "children"),
        Output(SPEND_CHART, "figure"),
        Output(SPEND_TABLE, "children"),
        Output(SPEND_BY, "children"),
        Output(CARDS, "children"),
        Output(TIME_CHART, "figure"),
        Output(TIME_TABLE, "children"),
        Output(MODEL_CHART, "figure"),
        Output(MODEL_TABLE, "children"),
        Output(SAVINGS, "children"),
        Output(RECENT, "children"),
    )
    def fill(asked: Asked) -> Filled:
        return overview_filled(read(asked), asked, context.config)


PAGE = Page(path="/", title="Overview", layout=layout, register=register)


def overview_filled(overview: Overview, asked: Asked, config: DashboardConfig) -> Filled:
    """The whole page for what was read."""
    baseline = baseline_of(overview.savings)
    values = (
        stat_grid(money_cards(overview, asked)),
        spend_over_time(overview.buckets, baseline, asked.window, asked.zone, asked.search),
        spend_time_table(overview, asked),
        spend_by_table(overview, spend_question(asked).by, asked),
        stat_cards(overview, asked),
        requests_over_time(overview.buckets, asked.window, asked.zone, asked.search),
        time_table(overview, asked),
        requests_per_model(overview.shares, asked.search),
        model_table(overview, asked),
        savings_table(overview.savings),
        requests_table(overview.recent, config, asked.zone, asked.search),
    )
    newest_s = overview.latest_request_s
    said = None if overview.summary.requests else no_requests_notice(newest_s, asked.zone)
    return Filled(values, said, hidden=newest_s is None)


def stat_cards(overview: Overview, asked: Asked) -> Element:
    """The cards that are not about money; those that count requests lead to them."""
    summary = overview.summary
    return stat_grid([*_counts(summary, asked), *_times(summary), *_rest(overview, asked)])


def _counts(summary: RequestSummary, asked: Asked) -> list[Element]:
    failed = requests_link(asked.search, status="failed")
    fell_back = requests_link(asked.search, fallback="yes")
    fallbacks = f"{summary.fallbacks:,} fell back to another model"
    return [
        stat_card("Failed", format_share(summary.failed_share), outcomes(summary), failed),
        stat_card("Fallback share", format_share(summary.fallback_share), fallbacks, fell_back),
    ]


def outcomes(summary: RequestSummary) -> str:
    """How requests ended, in the words that are used everywhere."""
    completed = f"{summary.completed:,} completed, of which {summary.truncated:,} truncated"
    return f"{completed}; {summary.failed:,} failed; {summary.canceled:,} canceled"


def _times(summary: RequestSummary) -> list[Element]:
    measured = f", of a sample of {summary.sampled:,}" if summary.sampled else ""
    return [
        stat_card("Median latency", format_ms(summary.latency_p50_ms), f"time at the provider{measured}"),
        stat_card("95 % answered within", format_ms(summary.latency_p95_ms), f"time at the provider{measured}"),
        stat_card("First token", format_ms(summary.ttft_p50_ms), f"median of answers{measured}"),
        stat_card("Overhead", format_ms(summary.overhead_p50_ms), f"median, everything but the provider{measured}"),
    ]


def _rest(overview: Overview, asked: Asked) -> list[Element]:
    summary, now_s = overview.summary, asked.now_s
    return [
        stat_card("Carbon", f"{format_grams(summary.carbon_g)} CO₂e", _carbon_hint(summary)),
        stat_card("Newest request", _age(overview.latest_request_s, now_s), "whatever the range"),
        stat_card("Hourly sums", _age(overview.aggregated_through_s, now_s), _aggregation_hint(overview)),
    ]


def _carbon_hint(summary: RequestSummary) -> str:
    unknown = _unknown(summary.unknown_carbon, "carbon", "")
    if summary.carbon_range_g is None:
        return unknown or "as the catalogue has it"
    low_g, high_g = summary.carbon_range_g
    return f"between {format_grams(low_g)} and {format_grams(high_g)}{', ' + unknown if unknown else ''}"


def _unknown(count: int, what: str, otherwise: str) -> str:
    return f"plus {count:,} of unknown {what}" if count else otherwise


def _aggregation_hint(overview: Overview) -> str:
    if overview.aggregated_through_s is None:
        return "not yet: requests are counted one by one"
    return "newer requests are counted one by one"


def _age(moment_s: float | None, now_s: float) -> str:
    return UNKNOWN if moment_s is None else format_age(now_s - moment_s)


def requests_table(rows: Sequence[LoggedRequest], config: DashboardConfig, zone: Zone, search: str) -> Element:
    """The newest requests, each linked to its page and to its workflow in the Temporal Web UI, where there is one."""
    if not rows:
        return dimmed("None in this range.")
    return labelled_table(REQUEST_COLUMNS, [_request_row(row, config, zone, search) for row in rows], numeric=(3, 4))


def _request_row(row: LoggedRequest, config: DashboardConfig, zone: Zone, search: str) -> tuple[object, ...]:
    about = f"Open the workflow of request {row.request_id} in the Temporal Web UI"
    return (
        page_link(zone.time(row.created_at), detail_link(search, row.request_id, row.user_id)),
        row.router_id or "direct",
        row.model or NO_MODEL,
        format_ms(row.latency_ms),
        format_usd(row.cost_usd),
        status_badges(row.status, row.error_code, row.fallback_used),
        outside_link(row.request_id, workflow_url(config, row.workflow_id), about),
    )
