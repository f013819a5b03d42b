"""The time range of a page: one that ends now, whole days out of a calendar, or one that fits the requests there are.

The choice lives in the URL (`?range=1h`, or `?from=…&to=…`); where it has none, the requests decide. The URL has the
moments at which days begin and end, so a shared link means the same to people in other zones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import dash_mantine_components as dmc

from dashboard.frame.elements import Element
from dashboard.frame.urls import moment_in_url, query, search_with
from dashboard.frame.zones import DAY_S, HOUR_S, MINUTE_S, Zone
from modelpilot.metrics.requests import AnalyticsScope, DataSpan

CUSTOM, AUTO = "custom", "auto"
# Widths of time buckets; all that are shorter divide a day, so that buckets begin at whole hours of UTC.
# From an hour on they are whole hours, which are summed up beforehand (`hourly_metrics`).
BUCKETS_S = (
    5,
    15,
    MINUTE_S,
    5 * MINUTE_S,
    15 * MINUTE_S,
    *(n * HOUR_S for n in (1, 3, 6, 12)),
    DAY_S,
    2 * DAY_S,
    7 * DAY_S,
)
_MOST_BUCKETS = 60
_LONGEST_S = 10 * 366 * DAY_S
# A range that nobody has chosen has requests in at least so much of it, and is no shorter and no longer than this.
_FILLED, _LEAST_S, _MOST_S = 0.5, 30, 30 * DAY_S
_NEWEST = "the newest 30 days of requests"
# Mantine names the calendar's dialog by the element whose id is the popover's with this behind it.
NAMING = "-target"
_CALENDAR_BUTTONS = {
    "monthLevelControl": "Choose a month",
    "yearLevelControl": "Choose a year",
    "nextMonth": "Next month",
    "previousMonth": "Previous month",
    "nextYear": "Next year",
    "previousYear": "Previous year",
    "nextDecade": "Next ten years",
    "previousDecade": "Previous ten years",
}


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range that ends now."""

    key: str
    label: str
    span_s: int


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when (`end_s` exclusive, Unix seconds), in buckets of `bucket_s`. `key` is a range's, CUSTOM or
    AUTO; `why` says in words how an automatic one was chosen."""

    key: str
    start_s: float
    end_s: float
    bucket_s: int
    why: str = ""

    def scope(self, user_id: str | None) -> AnalyticsScope:
        """The window for one tenant; None: for all."""
        return AnalyticsScope(user_id, self.start_s, self.end_s)


RANGES = (
    TimeRange("1h", "1 hour", HOUR_S),
    TimeRange("24h", "24 hours", DAY_S),
    TimeRange("7d", "7 days", 7 * DAY_S),
    TimeRange("30d", "30 days", 30 * DAY_S),
    TimeRange("90d", "90 days", 90 * DAY_S),
)
DEFAULT_RANGE = RANGES[1]


def window_from_url(search: str | None, now_s: float, known: DataSpan | None = None) -> Window:
    """The window that a URL asks for; one that fits what is `known` to be there (None: the default) where it asks for
    none, or for one that makes no sense: a link may be older than this version."""
    asked = query(search)
    start_s, end_s = _moment(asked.get("from")), _moment(asked.get("to"))
    if start_s is not None and end_s is not None and start_s < end_s <= start_s + _LONGEST_S:
        # Today ends now, or its charts would end in hours that are still to come.
        end_s = min(end_s, now_s) if start_s < now_s else end_s
        return Window(CUSTOM, start_s, end_s, bucket_for(end_s - start_s))
    chosen = range_by_key(asked.get("range"))
    return fitting_window(known, now_s) if chosen is None else _ending_now(chosen, now_s)


def _ending_now(chosen: TimeRange, now_s: float) -> Window:
    bucket_s = bucket_for(chosen.span_s)
    # It starts on a bucket boundary, since a cut first bar would look like a dip.
    return Window(chosen.key, (now_s - chosen.span_s) // bucket_s * bucket_s, now_s, bucket_s)


def fitting_window(known: DataSpan | None, now_s: float) -> Window:
    """A window that is filled by the requests there are, or by those of the newest 30 days that have any: the shortest
    range that holds them, where they fill half of it; else from the first of them until now, or until the last."""
    if known is None:
        return replace(_ending_now(DEFAULT_RANGE, now_s), key=AUTO)
    last_s = min(known.last_s, now_s)
    first_s = max(min(known.first_s, last_s), last_s - _MOST_S)
    whole, filled_s, until_now_s = first_s <= known.first_s, last_s - first_s, now_s - first_s
    ranged = next((one for one in RANGES if one.span_s >= until_now_s and filled_s >= one.span_s * _FILLED), None)
    if ranged is not None:
        why = "the shortest range with all requests so far" if whole else _NEWEST
        return replace(_ending_now(ranged, now_s), key=AUTO, why=why)
    until_now = filled_s >= until_now_s * _FILLED
    span_s = max(until_now_s if until_now else filled_s, _LEAST_S)
    bucket_s = bucket_for(span_s)
    start_s = first_s // bucket_s * bucket_s
    end_s = now_s if until_now else (last_s // bucket_s + 1) * bucket_s
    why = f"from the first request {'until now' if until_now else 'to the last'}" if whole else _NEWEST
    return Window(AUTO, start_s, max(end_s, start_s + _LEAST_S), bucket_s, why)


def range_by_key(key: str | None) -> TimeRange | None:
    """The range of this key; None: there is none, or the requests decide."""
    return next((one for one in RANGES if one.key == key), None)


def search_for_range(search: str | None, key: str) -> str:
    """The same query string with another range; AUTO is none."""
    chosen = range_by_key(key)
    return search_with(search, {"range": chosen.key if chosen else None, "from": None, "to": None})


def bucket_for(span_s: float) -> int:
    """The narrowest bucket that makes no more than about 60 bars."""
    return next((width for width in BUCKETS_S if span_s / width <= _MOST_BUCKETS), BUCKETS_S[-1])


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
        ariaLabels=_CALENDAR_BUTTONS,
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


def _moment(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _midnight(day: date, zone: Zone) -> str:
    return moment_in_url(datetime.combine(day, time.min, zone.info).timestamp())
