"""Pure functions: rows → Figure. Charts carry no title of their own; the page says it in HTML above them.

Text and grid lines get their colours from `assets/style.css`, so that a change between light and dark needs no redraw.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.formats import utc
from modelpilot.analytics import AnalyticsScope, ModelShare, RequestBucket

CHART_HEIGHT_PX = 360
MAX_MODELS = 8
MIN_ROWS = 5  # fewer models leave space free, rather than become bars as thick as a thumb
NOT_FAILED, FAILED = "Not failed", "Failed"
# At least 3:1 against both the light and the dark surface. Failures are also hatched: colour never speaks alone.
COLORS = {NOT_FAILED: "#228be6", FAILED: "#fa5252"}
CLEAR = "rgba(0,0,0,0)"


def requests_over_time(buckets: Sequence[RequestBucket], scope: AnalyticsScope, bucket_s: int) -> go.Figure:
    """Stacked bars of requests per bucket, the failed ones on top. Buckets without a row are drawn as zero."""
    rows = fill_buckets(buckets, scope, bucket_s)
    middles = [utc(row.start_s + bucket_s / 2.0) for row in rows]
    labels = [f"{utc(row.start_s):%b %d %H:%M} to {utc(row.start_s + bucket_s):%H:%M} UTC" for row in rows]
    figure = go.Figure(
        [
            _bars(NOT_FAILED, x=middles, y=[row.requests - row.failed for row in rows]),
            _bars(FAILED, x=middles, y=[row.failed for row in rows]),
        ]
    )
    figure.update_traces(customdata=labels, hovertemplate="%{y:,} %{fullData.name}<br>%{customdata}<extra></extra>")
    figure.update_xaxes(range=[utc(rows[0].start_s), utc(rows[-1].start_s + bucket_s)], nticks=6)
    # Up to four requests an automatic axis would show fractions of a request.
    top = max(row.requests for row in rows)
    figure.update_yaxes(range=[0, max(4.0, top * 1.08)], tickformat=",d", nticks=5)
    return _dressed(figure)


def requests_per_model(shares: Sequence[ModelShare]) -> go.Figure:
    """Horizontal bars, the busiest model on top. Names stand above their bars: beside them they would take half of a
    narrow screen."""
    rows = fold_small(shares)
    total = sum(row.requests for row in rows) or 1
    layout = {"y": list(range(len(rows))), "orientation": "h", "width": 0.36, "customdata": [row.model for row in rows]}
    figure = go.Figure(
        [
            _bars(NOT_FAILED, x=[row.requests - row.failed for row in rows], **layout),
            _bars(FAILED, x=[row.failed for row in rows], **layout),
        ]
    )
    figure.update_traces(hovertemplate="%{x:,} %{fullData.name}<br>%{customdata}<extra></extra>")
    for position, row in enumerate(rows):
        text = f"{row.model} · {row.requests:,} ({row.requests / total:.0%})"
        figure.add_annotation(x=0, y=position - 0.36, text=text, showarrow=False, xanchor="left")
    if not rows:
        middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        figure.add_annotation(text="No requests in this range", showarrow=False, **middle)
    figure.update_yaxes(range=[max(len(rows), MIN_ROWS) - 0.6, -0.7], visible=False)
    figure.update_xaxes(rangemode="tozero", visible=False)
    return _dressed(figure)


def fill_buckets(buckets: Sequence[RequestBucket], scope: AnalyticsScope, bucket_s: int) -> list[RequestBucket]:
    """The buckets of the whole scope in order, the missing ones with no requests."""
    known = {int(bucket.start_s // bucket_s): bucket for bucket in buckets}
    first, last = int(scope.start_s // bucket_s), int(scope.end_s // bucket_s)
    return [known.get(index, RequestBucket(float(index * bucket_s), 0, 0)) for index in range(first, last + 1)]


def fold_small(shares: Sequence[ModelShare]) -> list[ModelShare]:
    """The busiest models, most requests first; the rest becomes one row that says how many models it stands for."""
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
    color = COLORS[name]
    pattern = {"shape": "/", "fgcolor": color, "bgcolor": CLEAR, "size": 6} if name == FAILED else {}
    return go.Bar(name=name, marker={"color": color, "pattern": pattern, "line": {"color": color, "width": 1}}, **data)


def _dressed(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        barmode="stack",
        bargap=0.25,
        height=CHART_HEIGHT_PX,
        autosize=True,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font={"size": 12, "family": "inherit"},
        legend={"orientation": "h", "y": -0.2, "x": 0, "traceorder": "normal"},
        hoverlabel={"bgcolor": "#212529", "font": {"color": "#f8f9fa"}},
        # Zooming by touch would catch the finger that scrolls the page.
        dragmode=False,
    )
    figure.update_layout(legend_itemclick=False, legend_itemdoubleclick=False)
    figure.update_xaxes(fixedrange=True, automargin=True)
    figure.update_yaxes(fixedrange=True, automargin=True)
    return figure
