"""The time ranges a page can show. The choice lives in the URL (`?range=1h`), so that reload and sharing keep it."""

from dataclasses import dataclass
from urllib.parse import parse_qs

from modelpilot.analytics import AnalyticsScope

HOUR_S = 3_600


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range and the width of its time buckets, chosen so that a chart has about 60 bars."""

    key: str
    label: str
    span_s: int
    bucket_s: int

    def scope(self, user_id: str | None, now_s: float) -> AnalyticsScope:
        """The range that ends now. It starts on a bucket boundary, since a cut first bar would look like a dip."""
        start_s = (now_s - self.span_s) // self.bucket_s * self.bucket_s
        return AnalyticsScope(user_id, start_s, now_s)


RANGES = (
    TimeRange("1h", "1 hour", HOUR_S, 60),
    TimeRange("24h", "24 hours", 24 * HOUR_S, HOUR_S // 2),
    TimeRange("7d", "7 days", 7 * 24 * HOUR_S, 3 * HOUR_S),
)
DEFAULT_RANGE = RANGES[1]


def range_by_key(key: str | None) -> TimeRange:
    """The range of this key; anything else is the default, for a shared link may be older than this version."""
    return next((one for one in RANGES if one.key == key), DEFAULT_RANGE)


def range_from_url(search: str | None) -> TimeRange:
    """The range that a URL's query string asks for."""
    values = parse_qs((search or "").removeprefix("?")).get("range")
    return range_by_key(values[-1] if values else None)


def url_for_range(chosen: TimeRange) -> str:
    """The query string that asks for this range."""
    return f"?range={chosen.key}"
