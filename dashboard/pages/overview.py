"""The Overview page: what the platform did in a range, at a glance."""

from collections.abc import Sequence

import dash_mantine_components as dmc
import plotly.graph_objects as go
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
from dashboard.frame.figures import dressed, hatched, named_rows, on_time_axis
from dashboard.frame.formats import (
    UNKNOWN,
    format_age,
    format_count,
    format_grams,
    format_ms,
    format_share,
    format_usd,
    utc,
)
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.ranges import Window
from dashboard.frame.tables import behind_chart, labelled_table
from dashboard.frame.urls import detail_link, requests_link, workflow_url
from dashboard.frame.zones import Zone
from modelpilot.metrics.overview import NO_MODEL, ModelShare, Overview, RequestBucket, RequestSummary
from modelpilot.metrics.requests import LoggedRequest
from modelpilot.metrics.savings import BASELINE_NAMES, Saving

REMARK = (
    "What a model that did not answer would have cost is what was predicted before each call, corrected by how far "
    "predictions were off where models did answer: an estimate, which in about 95 of 100 cases lies between the two "
    "bounds. Actual costs are what providers charged, or tokens as they counted them at catalogue prices. "
    "Requests with a price that nobody knows are left out."
)
MAX_MODELS = 8
MIN_ROWS = 4  # fewer models leave space free, rather than become bars as thick as a thumb
NOT_FAILED, FAILED = "Not failed", "Failed"
# At least 3:1 against both the light and the dark surface. Failures are also hatched: colour never speaks alone.
OUTCOME_COLORS = {NOT_FAILED: "#228be6", FAILED: "#fa5252"}
REQUEST_COLUMNS = ("Time", "Router", "Model", "Latency", "Cost", "Status", "Workflow")
RECENT_LIMIT = 10

FRAME = PageFrame("overview", "Overview", skeleton=(92, 92, 320, 320))
CARDS = FRAME.id("cards")
TIME_CHART = FRAME.id("time-chart")
MODEL_CHART = FRAME.id("model-chart")
TIME_TABLE = FRAME.id("time-table")
MODEL_TABLE = FRAME.id("model-table")
SAVINGS = FRAME.id("savings")
RECENT = FRAME.id("recent")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    charts = dmc.SimpleGrid(
        [
            chart_panel("Requests over time", TIME_CHART, TIME_TABLE),
            chart_panel("Requests per model", MODEL_CHART, MODEL_TABLE),
        ],
        cols={"base": 1, "lg": 2},
        my="md",
    )
    saved = panel("Savings", html.Div(id=SAVINGS))
    recent = panel("Most recent requests", html.Div(id=RECENT))
    return FRAME.layout(context, search, html.Div(id=CARDS), charts, saved, html.Div(className="mp-gap"), recent)


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    FRAME.follow_points(app, TIME_CHART)
    FRAME.follow_points(app, MODEL_CHART)

    @FRAME.fills(
        app,
        context,
        Output(CARDS, "children"),
        Output(TIME_CHART, "figure"),
        Output(TIME_TABLE, "children"),
        Output(MODEL_CHART, "figure"),
        Output(MODEL_TABLE, "children"),
        Output(SAVINGS, "children"),
        Output(RECENT, "children"),
    )
    def fill(asked: Asked) -> Filled:
        overview = context.reader.overview(asked.scope, asked.window.bucket_s, RECENT_LIMIT)
        return overview_filled(overview, asked, context.config)


PAGE = Page(path="/", title="Overview", layout=layout, register=register)


def overview_filled(overview: Overview, asked: Asked, config: DashboardConfig) -> Filled:
    """The whole page for what was read."""
    values = (
        stat_cards(overview, asked),
        requests_over_time(overview.buckets, asked.window, asked.zone, asked.search),
        _time_table(overview, asked),
        requests_per_model(overview.shares, asked.search),
        _model_table(overview, asked),
        savings_table(overview.savings),
        requests_table(overview.recent, config, asked.zone, asked.search),
    )
    newest_s = overview.latest_request_s
    said = None if overview.summary.requests else no_requests_notice(newest_s, asked.zone)
    return Filled(values, said, hidden=newest_s is None)


def stat_cards(overview: Overview, asked: Asked) -> Element:
    """All cards; those that count requests lead to them."""
    summary = overview.summary
    return stat_grid([*_money(overview), *_counts(summary, asked), *_times(summary), *_rest(overview, asked)])


def _money(overview: Overview) -> list[Element]:
    summary = overview.summary
    prices = _unknown(summary.unknown_cost, "price", "all prices known")
    return [stat_card("Spend", format_usd(summary.cost_usd), prices), _saved_card(overview.savings)]


def _counts(summary: RequestSummary, asked: Asked) -> list[Element]:
    every, failed = requests_link(asked.search), requests_link(asked.search, status="failed")
    fell_back = requests_link(asked.search, fallback="yes")
    fallbacks = f"{summary.fallbacks:,} fell back to another model"
    return [
        stat_card("Requests", format_count(summary.requests), outcomes(summary), every),
        stat_card("Failed", format_share(summary.failed_share), f"{summary.failed:,} of {summary.requests:,}", failed),
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


def _saved_card(known: tuple[Saving, ...]) -> Element:
    by_name = {one.baseline: one for one in known}
    found = next((by_name[name] for name in BASELINE_NAMES if name in by_name), None)
    if found is None:
        return stat_card("Saved", UNKNOWN, "no request to compare yet")
    share = f"{format_share(found.saved_cost_share)} less than " if found.saved_cost_usd >= 0 else "against "
    hint = f"{share}{BASELINE_NAMES[found.baseline]} ({_between(found)})"
    return stat_card("Saved", format_usd(found.saved_cost_usd), hint)


def _between(saving: Saving) -> str:
    low, high = format_usd(saving.saved_cost_low_usd), format_usd(saving.saved_cost_high_usd)
    return "measured" if low == high else f"estimate, {low} to {high}"


def savings_table(known: tuple[Saving, ...]) -> Element:
    """What was saved against each baseline, and how that is known."""
    by_name = {one.baseline: one for one in known}
    rows = [_saving_row(by_name[name], title) for name, title in BASELINE_NAMES.items() if name in by_name]
    columns = (
        "Compared with",
        "Would have cost",
        "Did cost",
        "Saved",
        "Between",
        "Saved share",
        "CO₂e saved",
        "Requests compared",
    )
    return html.Div(
        [
            labelled_table(columns, rows, numeric=range(1, len(columns)))
            if rows
            else dimmed("No request to compare yet."),
            html.P(REMARK, className="mp-remark"),
        ]
    )


def _saving_row(saving: Saving, title: str) -> tuple[object, ...]:
    return (
        title.capitalize(),
        format_usd(saving.baseline_cost_usd),
        format_usd(saving.actual_cost_usd),
        format_usd(saving.saved_cost_usd),
        f"{format_usd(saving.saved_cost_low_usd)} and {format_usd(saving.saved_cost_high_usd)}",
        format_share(saving.saved_cost_share),
        format_grams(saving.saved_carbon_g if saving.carbon_requests else None),
        f"{saving.requests:,} ({saving.estimated_requests:,} estimated)",
    )


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


def _time_table(overview: Overview, asked: Asked) -> Element:
    width_s = asked.window.bucket_s
    rows = [
        (
            page_link(
                asked.zone.span(row.start_s, row.start_s + width_s),
                requests_link(asked.search, (row.start_s, row.start_s + width_s)),
            ),
            format_count(row.requests),
            format_count(row.failed),
        )
        for row in fill_buckets(overview.buckets, asked.window)
        if row.requests
    ]
    return behind_chart(("Time", "Requests", "Failed"), rows, numeric=(1, 2))


def _model_table(overview: Overview, asked: Asked) -> Element:
    rows = [
        (
            _model_link(share.model, asked.search),
            format_count(share.requests),
            format_count(share.failed),
            format_usd(share.cost_usd),
        )
        for share in overview.shares
    ]
    return behind_chart(("Model", "Requests", "Failed", "Cost"), rows, numeric=(1, 2, 3))


def _model_link(model: str, search: str) -> Element | str:
    return model if model == NO_MODEL else page_link(model, requests_link(search, model=model))


def requests_over_time(buckets: Sequence[RequestBucket], window: Window, zone: Zone, search: str = "") -> go.Figure:
    """Stacked bars of requests per bucket, the failed ones on top. Buckets without a row are drawn as zero."""
    rows, width_s = fill_buckets(buckets, window), window.bucket_s
    spans = [(row.start_s, row.start_s + width_s) for row in rows]
    middles = [utc(start + width_s / 2.0) for start, _ in spans]
    labels = [zone.span(*span) for span in spans]

    def bars(name: str, values: list[int], status: str | None) -> go.Bar:
        links = [requests_link(search, span, status=status) for span in spans]
        return _bars(name, x=middles, y=values, customdata=list(zip(labels, links, strict=True)))

    figure = go.Figure(
        [
            bars(NOT_FAILED, [row.requests - row.failed for row in rows], None),
            bars(FAILED, [row.failed for row in rows], "failed"),
        ]
    )
    figure.update_traces(hovertemplate="%{y:,} %{fullData.name}<br>%{customdata[0]}<extra></extra>")
    # Up to four requests an automatic axis would show fractions of a request.
    top = max(row.requests for row in rows)
    figure.update_yaxes(range=[0, max(4.0, top * 1.08)], tickformat=",d", nticks=5, title={"text": "requests"})
    return on_time_axis(dressed(figure), window, zone)


def requests_per_model(shares: Sequence[ModelShare], search: str = "") -> go.Figure:
    """Horizontal bars, the busiest model on top."""
    rows = fold_small(shares)
    total = sum(row.requests for row in rows) or 1
    models = {share.model for share in shares} - {NO_MODEL}  # what can be filtered by: not the folded row

    def bars(name: str, values: list[int], status: str | None) -> go.Bar:
        names = [row.model if row.model in models else None for row in rows]
        links = [requests_link(search, model=model, status=status) for model in names]
        data = list(zip([row.model for row in rows], links, strict=True))
        return _bars(name, x=values, y=list(range(len(rows))), orientation="h", width=0.36, customdata=data)

    figure = go.Figure(
        [
            bars(NOT_FAILED, [row.requests - row.failed for row in rows], None),
            bars(FAILED, [row.failed for row in rows], "failed"),
        ]
    )
    figure.update_traces(hovertemplate="%{x:,} %{fullData.name}<br>%{customdata[0]}<extra></extra>")
    named_rows(figure, [f"{row.model} · {row.requests:,} ({row.requests / total:.0%})" for row in rows], MIN_ROWS)
    if not rows:
        middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        figure.add_annotation(text="No requests in this range", showarrow=False, **middle)
    figure.update_xaxes(rangemode="tozero", visible=False)
    return dressed(figure)


def fill_buckets(buckets: Sequence[RequestBucket], window: Window) -> list[RequestBucket]:
    """The buckets of the whole window in order, the missing ones with no requests."""
    width_s = window.bucket_s
    known = {int(bucket.start_s // width_s): bucket for bucket in buckets}
    first, end = int(window.start_s // width_s), int(-(-window.end_s // width_s))
    return [
        known.get(index, RequestBucket(float(index * width_s), 0, 0)) for index in range(first, max(end, first + 1))
    ]


def fold_small(shares: Sequence[ModelShare]) -> list[ModelShare]:
    """The busiest models, and the rest as one row, so that a catalogue of a hundred stays readable."""
    rows = sorted(shares, key=lambda share: (-share.requests, share.model))
    if len(rows) <= MAX_MODELS:
        return rows
    rest = rows[MAX_MODELS - 1 :]
    folded = ModelShare(
        f"{len(rest)} other models",
        sum(row.requests for row in rest),
        sum(row.failed for row in rest),
        sum(row.cost_usd for row in rest),
    )
    return [*rows[: MAX_MODELS - 1], folded]


def _bars(name: str, **data: object) -> go.Bar:
    return go.Bar(name=name, marker=hatched(OUTCOME_COLORS[name], "/" if name == FAILED else ""), **data)


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
