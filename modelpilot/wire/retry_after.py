"""Retry-After in every form that providers send, legal or not (RFC 9110, section 10.2.3)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3_600.0
# Whole seconds are the standard; fractions are common. No sign, no exponent, ASCII digits only.
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds from `now_s` (Unix seconds), in [0, MAX_RETRY_AFTER_S]; None for a value that says nothing usable.

    A date in the past means now; a negative or otherwise illegal value counts as absent.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    date = _http_date(text)
    return None if date is None else min(max(date.timestamp() - now_s, 0.0), MAX_RETRY_AFTER_S)


def retry_after_of(headers: Mapping[str, str], now_s: float) -> float | None:
    """The wait that a response's headers ask for, seconds; `retry-after-ms` (OpenAI, Azure) is the finer one.

    `headers` must compare names without regard to case, or have lower-case names.
    """
    milliseconds = (headers.get("retry-after-ms") or "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return min(float(milliseconds) / 1_000.0, MAX_RETRY_AFTER_S)
    return parse_retry_after(headers.get("retry-after"), now_s)


def _http_date(text: str) -> datetime | None:
    # Without a month's name it cannot be a date: keeps "-1" and other junk away from the lenient parser.
    if not re.search(r"[A-Za-z]{3}", text) or len(text) > 64:
        return None
    try:
        date = parsedate_to_datetime(text)
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
