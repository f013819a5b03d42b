"""What component functions return, and attributes that Dash's generated signatures cannot name."""

from typing import Any, TypeAlias

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State

# A Dash component. dash-mantine-components ships no types, so anything narrower would need a cast at every return.
Element: TypeAlias = Any


def aria(**values: str) -> dict[str, Any]:
    """ARIA attributes for `**`: `aria(label="Pages")` → `{"aria-label": "Pages"}`."""
    return {f"aria-{name}": value for name, value in values.items()}


# Callbacks that run in the browser: the functions are in `assets/modelpilot.js`, since the policy allows no others.


def in_browser(app: Dash, function: str, *arguments: Output | Input | State, at_start: bool = True) -> None:
    """Attach a function of `assets/modelpilot.js`. `at_start` False: not before something has changed."""
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("modelpilot", function), *arguments, prevent_initial_call=not at_start
    )


# Messages that take the place of data, or stand above it. Each says what to do.

# The coloured title that Mantine gives has too little contrast on the coloured ground.
_STYLES = {"title": {"color": "var(--mantine-color-text)"}}


def notice(title: str, *children: object, color: str) -> Element:
    """A message. Colours: blue for what is to know, yellow for a warning, red for what is broken."""
    return dmc.Alert(list(children), title=title, color=color, variant="light", mb="md", styles=_STYLES)


def command(line: str) -> Element:
    """A shell command inside a sentence."""
    return dmc.Code(line)


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


def no_requests_notice() -> Element:
    """Nothing was ever routed for this tenant."""
    hint = ("Send one to a router, or run ", command("modelpilot demo"), " to fill this page with examples.")
    return notice("No requests yet", *hint, color="blue")


def nothing_here_notice(what: str, newest: str | None = None) -> Element:
    """There is data, but none in this range with these filters. `newest` says when the newest came."""
    hint = f"The newest one came at {newest}: choose a longer range" if newest else "Choose a longer range"
    return notice(f"No {what} here", f"{hint}, clear a filter, or run ", command("modelpilot demo"), ".", color="blue")
