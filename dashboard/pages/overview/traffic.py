"""Requests of the Overview page over time and by model, as figures and as the tables behind them."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.frame.elements import Element, page_link
from dashboard.frame.figures import dressed, hatched, named_rows, on_time_axis
from dashboard.frame.formats import format_count, format_usd, utc
from dashboard.frame.page_frame import Asked
from dashboard.frame.ranges import Window
from dashboard.frame.tables import behind_chart
from dashboard.frame.urls import requests_link
from dashboard.frame.zones import Zone
from modelpilot.metrics.overview import NO_MODEL, ModelShare, Overview, RequestBucket

MAX_MODELS = 8
MIN_ROWS = 4  # fewer models leave space free, rather than become bars as thick as a thumb
NOT_FAILED, FAILED = "Not failed", "Failed"
# At least 3:1 against both the light and the dark surface. Failures are also hatched: colour never speaks alone.
OUTCOME_COLORS = {NOT_FAILED: "#228be6", FAILED: "#fa5252"}


def time_table(overview: Overview, asked: Asked) -> Element:
    """The numbers of the requests over time."""
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


def model_table(overview: Overview, asked: Asked) -> Element:
    """The numbers of the requests per model."""
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
