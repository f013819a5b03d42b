"""The simulator's prompt caches: what Anthropic documents of its own, and those that keep prefixes by themselves."""

from typing import Any

import pytest

from simulator.faults import SimError
from simulator.prefix_cache import PrefixCache, blocks_of, plain_blocks
from simulator.request import Block, CacheUse, Turn
from tests.support.core import ManualClock

FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}


def text(words: int, mark: dict[str, str] | None = None, word: str = "w") -> dict[str, Any]:
    return {"type": "text", "text": f"{word} " * words, **({"cache_control": mark} if mark else {})}


def asked(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}], **more}


def test_a_conversation_reads_what_its_last_turn_wrote() -> None:
    """What follows the longest known prefix is written, and what is known is read, by key and model."""
    cache = PrefixCache()
    first = blocks_of(asked(text(10), text(2_000, FIVE)))
    second = blocks_of(asked(text(10), text(2_000), text(30, FIVE), text(5)))
    assert cache.use("a", first) == CacheUse(0, 2_010, 0)
    assert cache.use("a", second) == CacheUse(2_010, 30, 0)
    assert cache.use("a", second) == CacheUse(2_040, 0, 0)
    assert cache.use("b", second) == CacheUse(0, 2_040, 0)


def test_a_prefix_is_kept_for_its_time_since_it_was_used_last() -> None:
    """Five minutes or an hour, begun anew by every use."""
    clock = ManualClock()
    cache = PrefixCache(clock)
    short, long = blocks_of(asked(text(2_000, FIVE))), blocks_of(asked(text(3_000, HOUR)))
    assert (cache.use("a", short), cache.use("a", long)) == (CacheUse(0, 2_000, 0), CacheUse(0, 0, 3_000))
    for _ in range(3):
        clock.now_s += 299.0
        assert cache.use("a", short).read == 2_000
    clock.now_s += 301.0
    assert cache.use("a", short).read == 0
    assert cache.use("a", long).read == 3_000


def test_both_times_in_one_request() -> None:
    """Up to the last mark for an hour for an hour, the rest for five minutes."""
    blocks = blocks_of(asked(text(20, FIVE), system=[text(1_500, HOUR)]))
    assert PrefixCache().use("a", blocks) == CacheUse(0, 20, 1_500)


def test_too_short_or_too_far_is_not_found() -> None:
    """Less than 1,024 tokens are not kept, and a mark looks back over twenty blocks."""
    cache = PrefixCache()
    assert cache.use("a", blocks_of(asked(text(1_023, FIVE)))) == CacheUse()
    start = [text(1_024)]
    cache.use("a", blocks_of(asked(text(1_024, FIVE))))
    assert cache.use("a", blocks_of(asked(*start, *[text(1)] * 18, text(1, FIVE)))).read == 1_024
    assert cache.use("b", blocks_of(asked(text(1_024, FIVE)))).written_5m == 1_024
    assert cache.use("b", blocks_of(asked(*start, *[text(1)] * 19, text(1, FIVE)))).read == 0


def test_tools_come_first_and_a_mark_on_the_body_is_the_last_block() -> None:
    """Another tool changes every prefix; automatic caching keeps the whole prompt."""
    cache, tool = PrefixCache(), {"name": "f", "description": "does it", "input_schema": {}}
    body = asked(text(2_000), cache_control=FIVE)
    assert cache.use("a", blocks_of(body)).written_5m == 2_000
    assert cache.use("a", blocks_of({**body, "tools": [tool]})) == CacheUse(0, 2_003, 0)


@pytest.mark.parametrize(
    "body",
    [
        asked(*[text(1, FIVE)] * 5),
        asked(*[text(1, FIVE)] * 4, text(1), cache_control=FIVE),
        asked(text(0, FIVE)),
        asked(text(1, FIVE), text(1, HOUR)),
        asked(text(1, {"type": "ephemeral", "ttl": "2h"})),
        asked(text(1, {"type": "for ever"})),
        asked({"type": "thinking", "thinking": "hm", "cache_control": FIVE}),
    ],
)
def test_what_anthropic_refuses(body: dict[str, Any]) -> None:
    """More than four marks, marks on nothing or on thinking, longer times behind shorter ones, unknown ones."""
    with pytest.raises(SimError) as refused:
        blocks_of(body)
    assert refused.value.status == 400


def plain(*words: int, tools: Any = None) -> tuple[Block, ...]:
    turns = [Turn("user", f"w{count} " * count) for count in words]
    return plain_blocks(tools, [{"role": turn.role, "content": turn.text} for turn in turns], turns)


def test_prefixes_are_kept_without_marks() -> None:
    """OpenAI's and Gemini's way: from 1,024 tokens on, in steps of 128, by key and model, for the same tools only."""
    clock = ManualClock()
    cache = PrefixCache(clock)
    assert plain(1_000, 23) == ()
    assert cache.use("a", plain(1_000, 100)).read == 0
    assert cache.use("a", plain(1_000, 100, 500)).read == 1_024  # of 1,100
    assert cache.use("a", plain(1_000, 100, 500, 7)).read == 1_536  # of 1,600
    assert cache.use("a", plain(1_000, 101, 500)).read == 0
    assert cache.use("b", plain(1_000, 100)).read == 0
    assert cache.use("a", plain(1_000, 100, tools=[{"name": "x"}])).read == 0
    clock.now_s += 301.0
    assert cache.use("a", plain(1_000, 100)).read == 0
