"""The SSE parser: what the standard says, however the bytes are split, within bounds."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.wire.events import EventTooLarge, ServerSentEvent, SseParser

EVENTS = [
    pytest.param(b"data: a\n\n", [("", b"a")], id="plain"),
    pytest.param(b"data:a\r\n\r\n", [("", b"a")], id="crlf, no space"),
    pytest.param(b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")], id="lone cr"),
    pytest.param(b"data: a\ndata: b\n\n", [("", b"a\nb")], id="several data lines"),
    pytest.param(b"event: ping\ndata: {}\n\n", [("ping", b"{}")], id="named"),
    pytest.param(b"event: ping\n\ndata: x\n\n", [("", b"x")], id="a name without data is no event"),
    pytest.param(b": comment\n\n: another\n\n", [], id="comments"),
    pytest.param(b"id: 1\nretry: 5\nunknown: x\ndata\n\n", [("", b"")], id="other fields, empty data"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n", [("", b"a")], id="byte order mark"),
    pytest.param(b"data:  two spaces\n\n", [("", b" two spaces")], id="one space is stripped"),
    pytest.param(
        "data: 日本\u2028語\x0b\x85\n\n".encode(), [("", "日本\u2028語\x0b\x85".encode())], id="no other newlines"
    ),
    pytest.param(b"\n\n\ndata: a\n\n\n\n", [("", b"a")], id="blank lines"),
    pytest.param(b"data: a", [("", b"a")], id="cut off before its blank line"),
    pytest.param(b"data: a\nevent: x", [("x", b"a")], id="cut off in a field"),
]


def parse(pieces: list[bytes]) -> list[ServerSentEvent]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    last = parser.finish()
    return events if last is None else [*events, last]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize(("data", "expected"), EVENTS)
def test_events(data: bytes, expected: list[tuple[str, bytes]]) -> None:
    """Every form that the standard allows is read as it says."""
    assert parse([data]) == [ServerSentEvent(*event) for event in expected]


@given(
    lines=st.lists(
        st.sampled_from([b"data: a", b"data:\xc3\xa9", b": c", b"event: e", b"", b"x", b"data"]), max_size=30
    ),
    endings=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_any_split_gives_the_same_events(lines: list[bytes], endings: list[bytes], cuts: list[int]) -> None:
    """Where the network splits the bytes never matters."""
    data = b"".join(line + endings[index % len(endings)] for index, line in enumerate(lines))
    assert parse(split(data, cuts)) == parse([data])


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_rubbish_neither_raises_nor_depends_on_splits(data: bytes, cuts: list[int]) -> None:
    """No input of the network breaks the parser."""
    assert parse(split(data, cuts)) == parse([data])


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 60, b"x" * 60, b"data: 0123456789\n" * 10, b": " + b"c" * 60])
def test_an_event_has_a_maximum_size(piece: bytes) -> None:
    """A provider cannot fill our memory, with data lines or with one endless line."""
    parser = SseParser(max_event_bytes=100)
    with pytest.raises(EventTooLarge):
        [parser.feed(piece) for _ in range(3)]


def test_a_large_event_in_many_pieces_costs_no_more_than_its_size() -> None:
    """A picture of 12 MB must not hold up everybody else: each byte is touched a few times, however it arrives."""
    data = b"data: " + b"A" * (12 * 2**20) + b"\n\n"
    parser, began_s = SseParser(), time.process_time()
    events = [event for start in range(0, len(data), 4_096) for event in parser.feed(data[start : start + 4_096])]
    assert [len(event.data) for event in events] == [12 * 2**20]
    assert time.process_time() - began_s < 1.0  # joining what has come at every piece would take several seconds


def test_many_small_events_and_comments_are_no_large_event() -> None:
    """The bound is per event, not per stream."""
    parser = SseParser(max_event_bytes=100)
    assert sum(len(parser.feed(b"data: 0123456789\n\n: comment\n")) for _ in range(1_000)) == 1_000
