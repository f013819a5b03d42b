"""The Overview page: what the platform did in a range, at a glance. What is on it comes from `overview_view`."""

import dash_mantine_components as dmc
from dash import Dash, Output, dcc, html

from dashboard import ids
from dashboard.config import DashboardConfig
from dashboard.frame.components import chart_panel, panel, requests_table, stat_card, stat_grid
from dashboard.frame.elements import Element, no_requests_notice, nothing_here_notice
from dashboard.frame.figures import fill_buckets, requests_over_time, requests_per_model
from dashboard.frame.formats import UNKNOWN, format_age, format_count, format_grams, format_ms, format_share, format_usd
from dashboard.frame.frame import Asked, Filled, Frame
from dashboard.frame.links import follow_points, requests_link
from dashboard.frame.page import Page, PageContext
from dashboard.frame.tables import behind_chart, labelled_table
from modelpilot.metrics.overview import NO_MODEL, Overview, RequestSummary
from modelpilot.metrics.savings import Saving

# The figures at the top of the Overview page, and the table of savings.

# The first one that something is known of is on the card.
BASELINE_NAMES = {
    "alwaysBest": "always the best model",
    "alwaysPreferred": "always the preferred model",
    "alwaysCheapest": "always the cheapest model",
}

REMARK = (
    "An estimate: what a model that did not answer would have cost is what was predicted before each call. "
    "Actual costs are tokens as providers counted them, at catalogue prices. "
    "Requests with a price that nobody knows are left out."
)


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
        stat_card("Requests", format_count(summary.requests), f"{summary.canceled:,} canceled", every),
        stat_card("Errors", format_share(summary.error_share), f"{summary.failed:,} failed", failed),
        stat_card("Fallback share", format_share(summary.fallback_share), fallbacks, fell_back),
    ]


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
    hint = f"{share}{BASELINE_NAMES[found.baseline]} (estimate)"
    return stat_card("Saved", format_usd(found.saved_cost_usd), hint)


def savings_table(known: tuple[Saving, ...]) -> Element:
    """What was saved against each baseline, and how that is known."""
    by_name = {one.baseline: one for one in known}
    rows = [_saving_row(by_name[name], title) for name, title in BASELINE_NAMES.items() if name in by_name]
    columns = (
        "Compared with",
        "Would have cost",
        "Did cost",
        "Saved",
        "Saved share",
        "CO₂e saved",
        "Requests compared",
    )
    return html.Div(
        [
            labelled_table(columns, rows, numeric=range(1, len(columns)))
            if rows
            else dmc.Text("No request to compare yet.", size="sm", c="dimmed"),
            html.P(REMARK, className="mp-remark"),
        ]
    )


def _saving_row(saving: Saving, title: str) -> tuple[object, ...]:
    return (
        title.capitalize(),
        format_usd(saving.baseline_cost_usd),
        format_usd(saving.actual_cost_usd),
        format_usd(saving.saved_cost_usd),
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


# Pure functions of the Overview page: rows → the parts that its callback puts in place.

RECENT_LIMIT = 10


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
    return Filled(values, _notice(overview, asked), hidden=overview.latest_request_s is None)


def _time_table(overview: Overview, asked: Asked) -> Element:
    width_s = asked.window.bucket_s
    rows = [
        (
            dcc.Link(
                asked.zone.span(row.start_s, row.start_s + width_s),
                href=requests_link(asked.search, (row.start_s, row.start_s + width_s)),
                className="mp-link",
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
    return model if model == NO_MODEL else dcc.Link(model, href=requests_link(search, model=model), className="mp-link")


def _notice(overview: Overview, asked: Asked) -> Element | None:
    if overview.latest_request_s is None:
        return no_requests_notice()
    if overview.summary.requests == 0:
        zone, newest_s = asked.zone, overview.latest_request_s
        return nothing_here_notice("requests", f"{zone.time(newest_s)} {zone.abbreviation(newest_s)}")
    return None


FRAME = Frame("overview", "Overview", skeleton=(92, 92, 320, 320))


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    charts = dmc.SimpleGrid(
        [
            chart_panel("Requests over time", ids.OVERVIEW_TIME_CHART, ids.OVERVIEW_TIME_TABLE),
            chart_panel("Requests per model", ids.OVERVIEW_MODEL_CHART, ids.OVERVIEW_MODEL_TABLE),
        ],
        cols={"base": 1, "lg": 2},
        my="md",
    )
    saved = panel("Savings", html.Div(id=ids.OVERVIEW_SAVINGS))
    recent = panel("Most recent requests", html.Div(id=ids.OVERVIEW_RECENT))
    return FRAME.layout(
        context, search, html.Div(id=ids.OVERVIEW_CARDS), charts, saved, html.Div(className="mp-gap"), recent
    )


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    follow_points(app, FRAME, ids.OVERVIEW_TIME_CHART)
    follow_points(app, FRAME, ids.OVERVIEW_MODEL_CHART)

    @FRAME.fills(
        app,
        context,
        Output(ids.OVERVIEW_CARDS, "children"),
        Output(ids.OVERVIEW_TIME_CHART, "figure"),
        Output(ids.OVERVIEW_TIME_TABLE, "children"),
        Output(ids.OVERVIEW_MODEL_CHART, "figure"),
        Output(ids.OVERVIEW_MODEL_TABLE, "children"),
        Output(ids.OVERVIEW_SAVINGS, "children"),
        Output(ids.OVERVIEW_RECENT, "children"),
    )
    def fill(asked: Asked) -> Filled:
        overview = context.reader.overview(asked.scope, asked.window.bucket_s, RECENT_LIMIT)
        return overview_filled(overview, asked, context.config)


PAGE = Page(path="/", title="Overview", layout=layout, register=register)
