"""The figures at the top of the Overview page, and the table of savings."""

import dash_mantine_components as dmc
from dash import html

from dashboard.components import stat_card, stat_grid
from dashboard.elements import Element
from dashboard.formats import (
    UNKNOWN,
    format_age,
    format_count,
    format_grams,
    format_ms,
    format_share,
    format_usd,
)
from dashboard.frame import Asked
from dashboard.labelled import labelled_table
from dashboard.links import requests_link
from modelpilot.metrics.overview import Overview, RequestSummary
from modelpilot.metrics.savings import Saving

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
