"""Colours, hatchings, dashes and markers of series, so that no two differ by colour alone."""

# Each has at least 3:1 against both the light and the dark surface (a test computes it).
COLORS = ("#228be6", "#e8590c", "#2f9e44", "#be4bdb", "#0c8599", "#e64980", "#7950f2", "#c77700")
HATCHES = ("", "/", ".", "x", "\\", "-", "+", "|")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "solid", "dash", "dot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "hourglass")
CLEAR = "rgba(0,0,0,0)"
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
