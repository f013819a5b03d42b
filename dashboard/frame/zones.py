"""Time zones: the browser names one, and every time on the site is shown in it. UTC unless asked otherwise."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
# Distances between two ticks of a time axis.
_STEPS_S = (
    5,
    15,
    30,
    MINUTE_S,
    2 * MINUTE_S,
    5 * MINUTE_S,
    10 * MINUTE_S,
    15 * MINUTE_S,
    30 * MINUTE_S,
    *(n * HOUR_S for n in (1, 2, 3, 6, 12)),
)
_STEPS_DAYS = (1, 2, 7, 14, 30, 90)
_MOST_TICKS = 6
_QUANTUM_S = 5 * MINUTE_S


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone by its IANA name."""

    info: ZoneInfo

    def local(self, unix_s: float) -> datetime:
        """The wall clock at a moment, aware of its offset."""
        return datetime.fromtimestamp(unix_s, self.info)

    def time(self, unix_s: float) -> str:
        """A time of day with its date, to the second: `2027-01-15 12:00:00`."""
        return self.local(unix_s).strftime("%Y-%m-%d %H:%M:%S")

    def moment(self, unix_s: float) -> str:
        """The same with the zone's name: `2027-01-15 12:00:00 UTC`."""
        return f"{self.time(unix_s)} {self.abbreviation(unix_s)}"

    def span(self, start_s: float, end_s: float) -> str:
        """`Jan 15 11:59 to 12:00 UTC`; both dates where they differ, seconds where these are not whole minutes."""
        start, end = self.local(start_s), self.local(end_s)
        clock = "%H:%M:%S" if start.second or end.second else "%H:%M"
        until = f"{end:{clock}}" if start.date() == end.date() else f"{end:%b %d {clock}}"
        return f"{start:%b %d {clock}} to {until} {self.abbreviation(end_s)}"

    def abbreviation(self, unix_s: float) -> str:
        """`UTC`, `CET`, `+0530` …: what the zone is called at a moment."""
        return self.local(unix_s).strftime("%Z")


UTC_ZONE = Zone(ZoneInfo("UTC"))


def zone_named(name: object) -> Zone:
    """The zone of this name. UTC for anything else: the name comes from a browser, whose list may be newer."""
    try:
        return Zone(ZoneInfo(name)) if isinstance(name, str) and name else UTC_ZONE
    except (ZoneInfoNotFoundError, ValueError, OSError):  # unknown; no relative path; a directory
        return UTC_ZONE


def time_ticks(start_s: float, end_s: float, zone: Zone) -> tuple[list[datetime], list[str]]:
    """Where a time axis has ticks (UTC) and what they say (wall clock).

    The axis itself stays in UTC: a day on which clocks go back has 25 hours, and no two of them share a place.
    """
    step_s = next((step for step in _STEPS_S if (end_s - start_s) / step <= _MOST_TICKS), None)
    moments = _day_ticks(start_s, end_s, zone) if step_s is None else _hour_ticks(start_s, end_s, zone, step_s)
    shown = [zone.local(moment) for moment in moments]
    one_day = len({moment.date() for moment in shown}) == 1
    clock = "%H:%M:%S" if step_s is not None and step_s < MINUTE_S else "%H:%M"
    form = "%b %d" if step_s is None else clock if one_day else f"%b %d<br>{clock}"
    return [datetime.fromtimestamp(moment, UTC) for moment in moments], [f"{moment:{form}}" for moment in shown]


def _hour_ticks(start_s: float, end_s: float, zone: Zone, step_s: int) -> list[float]:
    quantum_s = min(step_s, _QUANTUM_S)
    first = -(-start_s // quantum_s) * quantum_s
    candidates = [first + n * quantum_s for n in range(int((end_s - first) // quantum_s) + 1)]
    return [moment for moment in candidates if _seconds_of_day(zone.local(moment)) % step_s == 0]


def _seconds_of_day(moment: datetime) -> int:
    return moment.hour * HOUR_S + moment.minute * MINUTE_S + moment.second


def _day_ticks(start_s: float, end_s: float, zone: Zone) -> list[float]:
    days = (end_s - start_s) / DAY_S
    step = next((step for step in _STEPS_DAYS if days / step <= _MOST_TICKS), _STEPS_DAYS[-1])
    midnight = zone.local(start_s).replace(hour=0, minute=0, second=0, microsecond=0)
    ticks = []
    while midnight.timestamp() <= end_s:
        if midnight.timestamp() >= start_s:
            ticks.append(midnight.timestamp())
        midnight += timedelta(days=1 if midnight.timestamp() < start_s else step)
    return ticks
