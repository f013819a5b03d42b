"""What the figures of all pages have in common: dress, time axes, legends, and series that colour alone does not tell.

Figures are pure functions from rows to `Figure`. They carry no title; the page says it in HTML above them.

Text and grid lines get their colours from `assets/style.css`, so that a change between light and dark needs no redraw.
Points carry in `customdata` what the hover says, and last the link that a click follows.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.frame.elements import CHART_HEIGHT_PX
from dashboard.frame.formats import utc
from dashboard.frame.ranges import Window
from dashboard.frame.zones import Zone, time_ticks

CLEAR = "rgba(0,0,0,0)"
# Colours, hatchings, dashes and markers of series, so that no two differ by colour alone.
# Each colour has at least 3:1 against both the light and the dark surface (a test computes it).
COLORS = ("#228be6", "#e8590c", "#2f9e44", "#be4bdb", "#0c8599", "#e64980", "#7950f2", "#c77700")
HATCHES = ("", "/", ".", "x", "\\", "-", "+", "|")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hourglass")
MOST_SERIES = len(COLORS)
ROW_PX, ROWS_FRAME_PX, LEAST_ROWS = 44, 104, 2


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


def named_rows(figure: go.Figure, names: Sequence[str], least_rows: int = LEAST_ROWS) -> go.Figure:
    """Write the names of horizontal bars above them: beside them they would take half of a narrow screen.

    Fewer rows than `least_rows` leave space free, rather than become bars as thick as a thumb.
    """
    for place, name in enumerate(names):
        figure.add_annotation(x=0, xref="paper", y=place - 0.36, text=name, showarrow=False, xanchor="left")
    return figure.update_yaxes(range=[max(len(names), least_rows) - 0.6, -0.7], visible=False)


def bars_in_rows(traces: Sequence[go.Bar], names: Sequence[str]) -> go.Figure:
    """Horizontal bars with their names above and the legend below, as tall as their rows."""
    made = named_rows(dressed(go.Figure(list(traces))), names)
    height_px = max(len(names), LEAST_ROWS) * ROW_PX + ROWS_FRAME_PX
    return legend_below(made, rows=2).update_layout(height=height_px, showlegend=len(traces) > 1)


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
