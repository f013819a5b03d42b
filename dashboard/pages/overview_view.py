"""Pure functions of the Overview page: rows → the parts that its callback puts in place."""

from dash import dcc

from dashboard.components import requests_table
from dashboard.config import DashboardConfig
from dashboard.elements import Element
from dashboard.figures import fill_buckets, requests_over_time, requests_per_model
from dashboard.formats import format_count, format_usd
from dashboard.frame import Asked, Filled
from dashboard.links import requests_link
from dashboard.notices import no_requests_notice, nothing_here_notice
from dashboard.pages.overview_cards import savings_table, stat_cards
from dashboard.tables import behind_chart
from modelpilot.metrics.overview import NO_MODEL, Overview

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
