"""Pure functions: rows → Figure. Charts carry no title of their own; the page says it in HTML above them.

Text and grid lines get their colours from `assets/style.css`, so that a change between light and dark needs no redraw.
Points carry in `customdata` what the hover says, and last the link that a click follows.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.frame.formats import utc
from dashboard.frame.links import requests_link
from dashboard.frame.ranges import Window
from dashboard.frame.zones import Zone, time_ticks
from modelpilot.metrics.overview import NO_MODEL, ModelShare, RequestBucket

CHART_HEIGHT_PX = 360
MAX_MODELS = 8
MIN_ROWS = 4  # fewer models leave space free, rather than become bars as thick as a thumb
NOT_FAILED, FAILED = "Not failed", "Failed"
# At least 3:1 against both the light and the dark surface. Failures are also hatched: colour never speaks alone.
OUTCOME_COLORS = {NOT_FAILED: "#228be6", FAILED: "#fa5252"}
CLEAR = "rgba(0,0,0,0)"


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
    """Horizontal bars, the busiest model on top. Names stand above their bars: beside them they would take half of a
    narrow screen."""
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
    for position, row in enumerate(rows):
        text = f"{row.model} · {row.requests:,} ({row.requests / total:.0%})"
        figure.add_annotation(x=0, y=position - 0.36, text=text, showarrow=False, xanchor="left")
    if not rows:
        middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
        figure.add_annotation(text="No requests in this range", showarrow=False, **middle)
    figure.update_yaxes(range=[max(len(rows), MIN_ROWS) - 0.6, -0.7], visible=False)
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


def on_time_axis(figure: go.Figure, window: Window, zone: Zone) -> go.Figure:
    """Give the x axis the whole window, with ticks at round times of the zone. x values are UTC."""
    places, texts = time_ticks(window.start_s, window.end_s, zone)
    first = window.start_s // window.bucket_s * window.bucket_s
    last = -(-window.end_s // window.bucket_s) * window.bucket_s
    return figure.update_xaxes(range=[utc(first), utc(last)], tickvals=places, ticktext=texts)


def dressed(figure: go.Figure) -> go.Figure:
    """What all charts of the site have in common: size, margins, no colours of their own, no zooming by touch."""
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
    # Ticks that are not seen keep the first number of one axis away from that of the other.
    figure.update_xaxes(ticks="outside", ticklen=6, tickcolor=CLEAR)
    figure.update_xaxes(fixedrange=True, automargin=True, title={"font": {"size": 12}})
    figure.update_yaxes(fixedrange=True, automargin=True, title={"font": {"size": 12}})
    return figure


def legend_below(figure: go.Figure, rows: int = 1) -> go.Figure:
    """Put the legend of so many lines at the lower edge, below the title of the x axis whatever the height, and leave
    room for the first and last number of that axis."""
    at_edge = {"yref": "container", "y": 0, "yanchor": "bottom"}
    return figure.update_layout(legend=at_edge, margin={"l": 20, "r": 20, "b": 56 + 20 * rows})


def _bars(name: str, **data: object) -> go.Bar:
    color = OUTCOME_COLORS[name]
    pattern = {"shape": "/", "fgcolor": color, "bgcolor": CLEAR, "size": 6} if name == FAILED else {}
    return go.Bar(name=name, marker={"color": color, "pattern": pattern, "line": {"color": color, "width": 1}}, **data)


# Colours, hatchings, dashes and markers of series, so that no two differ by colour alone.

# Each has at least 3:1 against both the light and the dark surface (a test computes it).
COLORS = ("#228be6", "#e8590c", "#2f9e44", "#be4bdb", "#0c8599", "#e64980", "#7950f2", "#c77700")
HATCHES = ("", "/", ".", "x", "\\", "-", "+", "|")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hourglass")
MOST_SERIES = len(COLORS)


def bar_marker(index: int) -> dict[str, object]:
    """Of the series at this place: `marker` of a go.Bar."""
    place = index % MOST_SERIES
    return hatched(COLORS[place], HATCHES[place])


def hatched(color: str, hatch: str) -> dict[str, object]:
    """`marker` of a go.Bar in this colour; "" fills it."""
    pattern = {"shape": hatch, "fgcolor": color, "bgcolor": CLEAR, "size": 6} if hatch else {}
    return {"color": color, "pattern": pattern, "line": {"color": color, "width": 1}}


def line_style(index: int) -> dict[str, dict[str, object]]:
    """Of the series at this place: `line` and `marker` of a go.Scatter."""
    place = index % MOST_SERIES
    return {
        "line": {"color": COLORS[place], "dash": DASHES[place], "width": 2},
        "marker": {"color": COLORS[place], "symbol": MARKERS[place], "size": 7},
    }
