"""A calendar beside the ranges of a page: whole days of the visitor's zone.

The URL has the moments at which they begin and end, so a shared link means the same to people in other zones.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import dash_mantine_components as dmc

from dashboard.elements import Element
from dashboard.ranges import CUSTOM, moment_in_url, window_from_url
from dashboard.urls import search_with
from dashboard.zones import Zone

_BUTTONS = {
    "monthLevelControl": "Choose a month",
    "yearLevelControl": "Choose a year",
    "nextMonth": "Next month",
    "previousMonth": "Previous month",
    "nextYear": "Next year",
    "previousYear": "Previous year",
    "nextDecade": "Next ten years",
    "previousDecade": "Previous ten years",
}


# Mantine names the calendar's dialog by the element whose id is the popover's with this behind it.
NAMING = "-target"


def calendar(calendar_id: str) -> Element:
    """A button that opens a calendar of the first and the last day; its id has to end with NAMING. Which days are
    chosen depends on the visitor's zone, which the layout does not know yet."""
    popover = {"id": calendar_id.removesuffix(NAMING), "transitionProps": {"duration": 0}, "position": "bottom-end"}
    return dmc.DatePickerInput(
        id=calendar_id,
        type="range",
        value=[],
        placeholder="Choose days",
        valueFormat="D MMM YYYY",
        labelSeparator="to",
        allowSingleDateInRange=True,
        highlightToday=True,
        weekendDays=[],  # Mantine writes them in a red of too little contrast
        hideOutsideDates=True,
        ariaLabels=_BUTTONS,
        popoverProps=popover,
        size="xs",
        className="mp-days",
    )


def days_in_url(search: str | None, zone: Zone) -> list[str]:
    """The first and the last day (ISO 8601) that the URL's own times touch in this zone; none where it has a range."""
    window = window_from_url(search, 0.0)
    if window.key != CUSTOM:
        return []
    return [zone.local(moment).date().isoformat() for moment in (window.start_s, window.end_s - 1.0)]


def search_for_days(search: str | None, days: Sequence[Any] | None, zone: Zone) -> str | None:
    """The same query string with these days instead of its range. None: they are no first and last day."""
    try:
        first, last = (date.fromisoformat(one) for one in days or ())
        times = {"from": _midnight(first, zone), "to": _midnight(last + timedelta(days=1), zone)}
    except (TypeError, ValueError, OverflowError):
        return None
    return search_with(search, {"range": None, **times})


def _midnight(day: date, zone: Zone) -> str:
    return moment_in_url(datetime.combine(day, time.min, zone.info).timestamp())
