"""The money of the Overview page: spend and what was saved over time, by a dimension, and in the calendar month.

Amounts are USD. What was saved is against the first baseline of `BASELINE_NAMES` that something is known of.
"""

from collections.abc import Sequence
from datetime import timedelta

import plotly.graph_objects as go
from dash import html

from dashboard.frame.elements import Element, dimmed, page_link, stat_card
from dashboard.frame.figures import COLORS, dressed, hatched, on_time_axis
from dashboard.frame.filters import TAGS, Control, shown_name, tag_of, tags_in_url
from dashboard.frame.formats import (
    AXES,
    UNKNOWN,
    format_count,
    format_grams,
    format_share,
    format_usd,
    utc,
)
from dashboard.frame.page_frame import Asked
from dashboard.frame.ranges import RANGES, Window
from dashboard.frame.tables import Table, behind_chart, labelled_table
from dashboard.frame.urls import moment_in_url, requests_link
from dashboard.frame.zones import DAY_S, HOUR_S, MINUTE_S, Zone
from dashboard.pages.overview.traffic import fill_buckets
from modelpilot.metrics.dimensions import OTHER
from modelpilot.metrics.overview import (
    FORECAST_DAYS,
    NO_SPEND,
    MonthSpend,
    Overview,
    RequestBucket,
    Spend,
    SpendQuestion,
    SpendShare,
    forecast_usd,
)
from modelpilot.metrics.savings import BASELINE_NAMES, Saving

REMARK = (
    "What a model that did not answer would have cost is what was predicted before each call, corrected by how far "
    "predictions were off where models did answer: an estimate, which in about 95 of 100 cases lies between the two "
    "bounds. Actual costs are what providers charged, or tokens as they counted them at catalogue prices. "
    "Requests with a price that nobody knows are left out."
)
SPENT, SAVED = "Spend", "Saved"
DIMENSIONS: dict[str, str] = {
    "model": "model",
    "router": "router",
    "provider": "provider",
    "key": "API key",
    "user": "end user",
    "purpose": "purpose",
}
BY = Control(
    "by",
    "Spend by",
    tuple((key, label[0].upper() + label[1:]) for key, label in DIMENSIONS.items()),
    default="model",
    tags=True,
)
SPEND_COLUMNS = ("Spend", "Share", "Before", "Change", "Requests")
_TIME_COLUMNS = ("Time", "Spend", "Saved", "Requests")


def spend_question(asked: Asked) -> SpendQuestion:
    """What the page's URL asks for; the month is the calendar's in the viewer's zone."""
    return SpendQuestion(BY.value(asked.search), (month_bounds(asked.now_s, asked.zone)[0], asked.now_s))


def month_bounds(now_s: float, zone: Zone) -> tuple[float, float]:
    """When the calendar month began and when it ends (Unix seconds), on the clocks of the zone."""
    first = zone.local(now_s).replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return first.timestamp(), following.timestamp()


def money_cards(overview: Overview, asked: Asked) -> list[Element]:
    """Spend against the range before, what was saved, the forecast for the month, and the requests."""
    summary = overview.summary
    unknown = f"plus {summary.unknown_cost:,} of unknown price; " if summary.unknown_cost else ""
    change = change_text(summary.cost_usd, overview.before.cost_usd, overview, asked)
    requests = change_text(float(summary.requests), float(overview.before.requests), overview, asked)
    return [
        stat_card("Spend", format_usd(summary.cost_usd), unknown + change),
        _saved_card(overview.savings),
        forecast_card(overview.month, asked.now_s, asked.zone),
        stat_card("Requests", format_count(summary.requests), requests, requests_link(asked.search)),
    ]


def change_text(now: float, before: float, overview: Overview, asked: Asked) -> str:
    """`+12 % against the 24 hours before`; says where there is nothing to compare with, or only a part of it."""
    window = asked.window
    length = duration(window)
    if overview.before == NO_SPEND:
        return f"no data in the {length} before"
    begins_s, first_s = 2.0 * window.start_s - window.end_s, overview.first_request_s
    partly = ", which have data in a part only" if first_s is not None and first_s > begins_s + window.bucket_s else ""
    return f"{change(now, before)} against the {length} before{partly}" if before else f"0 in the {length} before"


def change(now: float, before: float) -> str:
    """The change from something as a percentage with its sign, `+12 %`."""
    return f"{(now / before - 1.0) * 100.0:+,.0f} %".replace("-", "\u2212")


def duration(window: Window) -> str:
    """`24 hours`, `7 days`: the range's name, or how long the window is, about."""
    named = next((one.label for one in RANGES if one.key == window.key), None)
    if named is not None:
        return named
    span_s = window.end_s - window.start_s
    units = (("days", DAY_S), ("hours", HOUR_S), ("minutes", MINUTE_S), ("seconds", 1))
    unit, size_s = next((one for one in units if span_s >= 1.95 * one[1]), units[-1])
    return f"{span_s / size_s:.0f} {unit}"


def forecast_card(month: MonthSpend | None, now_s: float, zone: Zone) -> Element:
    """The spend of the calendar month as it will be if the recent days go on, and how that is reckoned."""
    label = f"Forecast for {zone.local(now_s):%B}"
    if month is None:
        return stat_card(label, UNKNOWN, "no request yet")
    days_left = (month_bounds(now_s, zone)[1] - now_s) / DAY_S
    forecast, so_far = forecast_usd(month, days_left), format_usd(month.so_far.cost_usd)
    if forecast is None:
        return stat_card(label, UNKNOWN, f"{so_far} so far: too little for a forecast, which needs a day of use")
    whole = month.recent_days >= FORECAST_DAYS
    days = f"{month.recent_days:.0f}" if whole else f"{month.recent_days:.1f}, all there are"
    mean = format_usd(month.recent.cost_usd / month.recent_days)
    unknown = f"; {month.so_far.unknown_cost:,} unpriced left out" if month.so_far.unknown_cost else ""
    return stat_card(
        label,
        format_usd(forecast),
        f"{so_far} so far, then {mean} a day (mean of the last {days}) for {days_left:.1f} days{unknown}",
    )


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


def baseline_of(known: Sequence[Saving]) -> str | None:
    """The baseline that the page's card and figure compare with; None: nothing is known of any."""
    names = {one.baseline for one in known}
    return next((name for name in BASELINE_NAMES if name in names), None)


def spend_over_time(
    buckets: Sequence[RequestBucket], baseline: str | None, window: Window, zone: Zone, search: str = ""
) -> go.Figure:
    """Bars of spend, and below them, on an axis of their own, bars of what was saved: it may be many times the spend.
    Where more was paid than the baseline would have cost, these go down from zero."""
    rows = fill_buckets(buckets, window)
    spent = _bars(SPENT, rows, [row.cost_usd for row in rows], window, zone, search)
    saved = _bars(SAVED, rows, [row.saved_usd.get(baseline or "") for row in rows], window, zone, search)
    if baseline is not None:
        saved.name = f"{SAVED} against {BASELINE_NAMES[baseline]} (estimate)"
    saved.yaxis = "y2"
    _, form = AXES["USD"]
    axis = {"tickformat": form, "rangemode": "tozero", "nticks": 4}
    figure = go.Figure([spent, saved]).update_layout(
        yaxis={**axis, "domain": [0.44, 1.0], "title": {"text": "spend, USD", "standoff": 8}},
        yaxis2={**axis, "domain": [0.0, 0.36], "title": {"text": "saved, USD", "standoff": 8}},
        xaxis={"anchor": "y2"},
    )
    return on_time_axis(dressed(figure), window, zone).update_layout(showlegend=True)


_STYLES = {SPENT: (COLORS[0], ""), SAVED: (COLORS[2], "/")}


def _bars(
    name: str, rows: Sequence[RequestBucket], values: Sequence[float | None], window: Window, zone: Zone, search: str
) -> go.Bar:
    spans = [(row.start_s, row.start_s + window.bucket_s) for row in rows]
    return go.Bar(
        name=name,
        x=[utc(start + window.bucket_s / 2.0) for start, _ in spans],
        y=[value or None for value in values],  # a bar of nothing would be a line at zero
        customdata=[
            (format_usd(value), zone.span(*span), requests_link(search, span))
            for value, span in zip(values, spans, strict=True)
        ],
        hovertemplate="%{customdata[0]} %{fullData.name}<br>%{customdata[1]}<extra></extra>",
        marker=hatched(*_STYLES[name]),
    )


def spend_time_table(overview: Overview, asked: Asked) -> Element:
    """The numbers of `spend_over_time`, each row linked to its requests."""
    width_s, baseline = asked.window.bucket_s, baseline_of(overview.savings)
    rows = [
        (
            page_link(
                asked.zone.span(row.start_s, row.start_s + width_s),
                requests_link(asked.search, (row.start_s, row.start_s + width_s)),
            ),
            _known(Spend(row.cost_usd, row.unknown_cost)),
            format_usd(row.saved_usd.get(baseline or "")),
            format_count(row.requests),
        )
        for row in overview.buckets
    ]
    return behind_chart(_TIME_COLUMNS, rows, numeric=(1, 2, 3))


def spend_time_csv(overview: Overview, asked: Asked) -> Table:
    """The rows of `spend_time_table` with plain numbers and times in UTC."""
    baseline, width_s = baseline_of(overview.savings), asked.window.bucket_s
    rows = [
        (
            moment_in_url(row.start_s),
            moment_in_url(row.start_s + width_s),
            row.cost_usd,
            row.unknown_cost,
            baseline,
            row.saved_usd.get(baseline or ""),
            row.requests,
        )
        for row in overview.buckets
    ]
    return ("from", "to", "cost (USD)", "unknown cost", "baseline", "saved (USD)", "requests"), rows


def spend_by_table(overview: Overview, by: str, asked: Asked) -> Element:
    """The dearest values of a dimension, the rest as one row, and the sum."""
    if not overview.spend_by:
        return dimmed("Nothing was spent in this range.")
    total = overview.summary.cost_usd
    rows = [
        (
            _linked(share, by, asked),
            _known(share.spend),
            format_share(share.spend.cost_usd / total if total else None),
            _before(share.before),
            _change(share),
            format_count(share.spend.requests),
        )
        for share in overview.spend_by
    ]
    spent = Spend(total, overview.summary.unknown_cost, overview.summary.requests)
    every = SpendShare("", spent, overview.before)
    rows.append(("All", _known(spent), format_share(1.0 if total else None), _before(every.before), _change(every),
                 format_count(spent.requests)))  # fmt: skip
    heading = _title(by)[0].upper() + _title(by)[1:]
    return labelled_table((heading, *SPEND_COLUMNS), rows, numeric=range(1, 1 + len(SPEND_COLUMNS)))


def spend_by_csv(overview: Overview, by: str) -> Table:
    """The rows of `spend_by_table` with plain numbers, but for the sum."""
    total = overview.summary.cost_usd
    rows = [
        (
            share_name(share, by),
            share.spend.cost_usd,
            share.spend.unknown_cost,
            share.spend.cost_usd / total if total else None,
            share.before.cost_usd,
            share.before.unknown_cost,
            share.spend.requests,
        )
        for share in overview.spend_by
    ]
    columns = (
        _title(by), "cost (USD)", "unknown cost", "share", "cost before (USD)", "unknown cost before", "requests",
    )  # fmt: skip
    return columns, rows


def share_name(share: SpendShare, by: str) -> str:
    """A value in words: a key by its name, and how many are behind the rest."""
    if share.value is None:
        return f"{OTHER}, {share.members:,} more"
    if share.name:
        return f"{share.name} ({share.value})"
    return shown_name(by, share.value)


def _linked(share: SpendShare, by: str, asked: Asked) -> Element | str:
    name = share_name(share, by)
    if share.value is None:
        return name
    tag = tag_of(by)
    narrowed = {TAGS.name: tags_in_url({tag: share.value})} if tag else {by: shown_name(by, share.value)}
    return page_link(name, requests_link(asked.search, None, **narrowed))


def _title(by: str) -> str:
    return DIMENSIONS.get(by) or f"tag {tag_of(by)}"


def _before(spend: Spend) -> str:
    return _known(spend) if spend.requests or spend.cost_usd else UNKNOWN


def _known(spend: Spend) -> str:
    known = format_usd(spend.cost_usd)
    return f"{known} + {spend.unknown_cost:,} unknown" if spend.unknown_cost else known


def _change(share: SpendShare) -> str:
    return UNKNOWN if not share.before.cost_usd else change(share.spend.cost_usd, share.before.cost_usd)
