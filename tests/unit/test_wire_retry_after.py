"""Retry-After in every legal and illegal form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.wire.failures import MAX_RETRY_AFTER_S, parse_retry_after, retry_after_of

NOW = 784_111_770.0  # Sun, 06 Nov 1994 08:49:30 GMT

VALUES = [
    ("2", 2.0), ("0", 0.0), (" 2 ", 2.0), ("1.5", 1.5), ("007", 7.0),
    ("Sun, 06 Nov 1994 08:49:37 GMT", 7.0), ("Sunday, 06-Nov-94 08:49:37 GMT", 7.0),
    ("Sun Nov  6 08:49:37 1994", 7.0), ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
    ("Mon, 06 Nov 2000 08:49:37 GMT", MAX_RETRY_AFTER_S), ("9999", MAX_RETRY_AFTER_S), ("9" * 5_000, MAX_RETRY_AFTER_S),
    ("-1", None), ("+5", None), ("1e9", None), ("inf", None), ("nan", None), ("0x10", None), ("٣", None),
    ("", None), (None, None), ("garbage", None), ("soon, please", None), ("2 seconds", None), ("2, 3", None),
    ("Sun, 99 Nov 1994 99:99:99 GMT", None), ("Mon, 06 Nov 999999999999 08:49:37 GMT", None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_retry_after(value: str | None, expected: float | None) -> None:
    """A usable value gives seconds within the cap, anything else counts as absent."""
    assert parse_retry_after(value, NOW) == expected


@given(st.text(max_size=80))
def test_any_text_gives_a_bounded_wait_or_none(value: str) -> None:
    """No header of a provider breaks us or makes us wait for ever."""
    wait = parse_retry_after(value, NOW)
    assert wait is None or 0.0 <= wait <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": "3"}, 3.0),
        ({}, None),
    ],
)
def test_the_finer_header_wins(headers: dict[str, str], expected: float | None) -> None:
    """OpenAI's milliseconds are preferred where they can be read."""
    assert retry_after_of(headers, NOW) == expected
