"""What pages are made of: links, notices, stat cards, panels, charts, and callbacks that run in the browser."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

from dashboard.frame.zones import Zone

# A Dash component. dash-mantine-components ships no types, so anything narrower would need a cast at every return.
Element: TypeAlias = Any

STATUS_COLORS = {"completed": "green", "failed": "red", "canceled": "gray"}
CARD_COLUMNS = {"base": 2, "sm": 3, "lg": 4}
CHART_HEIGHT_PX = 360
# The coloured title that Mantine gives a notice has too little contrast on the coloured ground.
_NOTICE_STYLES = {"title": {"color": "var(--mantine-color-text)"}}


def aria(**values: str) -> dict[str, Any]:
    """ARIA attributes for `**`, which Dash's signatures cannot name: `aria(label="Pages")` → `{"aria-label": …}`."""
    return {f"aria-{name}": value for name, value in values.items()}


def in_browser(app: Dash, function: str, *arguments: Output | Input | State, at_start: bool = True) -> None:
    """Attach a function of `assets/modelpilot.js`: the policy allows no scripts written elsewhere.

    `at_start` False: it does not run before something has changed.
    """
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("modelpilot", function), *arguments, prevent_initial_call=not at_start
    )


def page_link(text: str, href: str) -> Element:
    """A link to another page of the site."""
    return dcc.Link(text, href=href, className="mp-link")


def outside_link(text: str, url: str | None, label: str | None = None) -> Element | str:
    """A link out of the site, which opens beside it; the plain text without a URL. `label` says more than the text."""
    if url is None:
        return text
    more = aria(label=label) if label else {}
    # A plain link: Mantine's Anchor decodes its href, and the slashes of a workflow's id would split the path.
    return html.A(text, href=url, target="_blank", rel="noreferrer", className="mp-link", **more)


def dimmed(text: str | list[Element], **props: Any) -> Element:
    """A remark in small grey letters."""
    return dmc.Text(text, **{"size": "sm", "c": "dimmed", **props})


def two_lines(first: Element, second: str, **props: Any) -> Element:
    """A cell with a remark below its value."""
    return html.Div([html.Div(first), dimmed(second, size="xs")], **props)


def command(line: str) -> Element:
    """A shell command inside a sentence."""
    return dmc.Code(line)


def notice(title: str, *children: object, color: str) -> Element:
    """A message that takes the place of data or stands above it, and says what to do.

    Colours: blue for what is to know, yellow for a warning, red for what is broken.
    """
    return dmc.Alert(list(children), title=title, color=color, variant="light", mb="md", styles=_NOTICE_STYLES)


def unavailable_notice(message: str) -> Element:
    """The database is away: the page keeps what it shows and says so."""
    return notice(
        "The database cannot be read",
        f"{message} Figures below, if any, are the last ones read. ",
        "Check it with ",
        command("modelpilot doctor"),
        "; the page tries again while auto-refresh is on.",
        color="red",
    )


def no_requests_notice(newest_s: float | None, zone: Zone) -> Element:
    """There are no requests here. `newest_s` is when the tenant's newest one began; None: nothing was ever routed."""
    if newest_s is not None:
        return nothing_here_notice("requests", zone.moment(newest_s))
    hint = ("Send one to a router, or run ", command("modelpilot demo"), " to fill this page with examples.")
    return notice("No requests yet", *hint, color="blue")


def nothing_here_notice(what: str, newest: str | None = None) -> Element:
    """There is data, but none in this range with these filters. `newest` says when the newest came."""
    hint = f"The newest one came at {newest}: choose a longer range" if newest else "Choose a longer range"
    return notice(f"No {what} here", f"{hint}, clear a filter, or run ", command("modelpilot demo"), ".", color="blue")


def stat_card(label: str, value: str, hint: str, href: str | None = None) -> Element:
    """One figure: what it is, its value, and what to know about it. `href` leads to the rows behind it."""
    name = page_link(label, href) if href else label
    return dmc.Card(
        # A <dl> keeps label and value together.
        html.Dl(
            [html.Dt(name, className="mp-stat-label"), html.Dd(value, className="mp-stat-value"), html.Dd(hint)],
            className="mp-stat",
        ),
        withBorder=True,
        padding="sm",
    )


def stat_grid(cards: Sequence[Element]) -> Element:
    """Cards side by side, as many as fit."""
    return dmc.SimpleGrid(list(cards), cols=CARD_COLUMNS, spacing="sm")


def panel(title: str, *children: Element) -> Element:
    """A titled section of a page."""
    return dmc.Card(
        html.Section([dmc.Title(title, order=2, size="h5", mb="xs"), *children]), withBorder=True, padding="md"
    )


def chart(label: str, height_px: float = CHART_HEIGHT_PX, **graph: Any) -> Element:
    """A chart that says in words what it is. `graph` has its `id` or its `figure`."""
    drawn = dcc.Graph(
        config={"displayModeBar": False, "scrollZoom": False},
        responsive=True,
        style={"height": height_px},
        **graph,
    )
    return html.Div(drawn, role="img", **aria(label=f"Chart: {label}"))


def chart_panel(title: str, graph_id: str, table_id: str | None = None, *more: Element) -> Element:
    """A titled chart. `table_id` is a place below for its numbers (`tables.behind_chart`): a picture has no text.
    `more` stands below that."""
    below = [*([html.Div(id=table_id)] if table_id else []), *more]
    return panel(title, chart(title, id=graph_id), *below)


def status_badges(status: str, error_code: str | None, fallback_used: bool) -> Element:
    """How a request ended, in words and a coloured dot."""
    badges = [badge(f"{status}: {error_code}" if error_code else status, STATUS_COLORS.get(status, "gray"))]
    if fallback_used:
        badges.append(badge("fallback", "yellow"))
    return dmc.Group(badges, gap=4)


def badge(text: str, color: str) -> Element:
    """A word with a coloured dot."""
    return dmc.Badge(text, color=color, variant="dot", size="sm", tt="none")
