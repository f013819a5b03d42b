"""Messages that take the place of data, or stand above it. Each says what to do."""

import dash_mantine_components as dmc

from dashboard.elements import Element

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
