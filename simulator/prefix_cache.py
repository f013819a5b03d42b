"""Prompt caches: what a request reads from them and, at Anthropic, writes to them.

Anthropic, as documented: a prompt is tools, system, messages, in this order. Each marked block ends a prefix that is
kept for five minutes or an hour since it was used last, from 1,024 tokens on. A mark finds what ends at one of the
twenty blocks up to it. What follows the longest prefix found is written up to the last mark: for an hour up to the last
mark for one.

OpenAI and Gemini keep every prefix from 1,024 tokens on by themselves; what is read counts in steps of 128 tokens. Here
a prefix ends with a message.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import orjson

from simulator import request as fields
from simulator.faults import SimError
from simulator.request import Block, CacheUse, Turn
from simulator.text import count_tokens, digest

LEAST_TOKENS = 1_024
_STEP = 128
_LOOKED_BACK = 20
_MOST_MARKS = 4
_HOUR_S = 3_600.0
_KEPT_S = {"5m": 300.0, "1h": _HOUR_S}
_MOST_PREFIXES = 100_000


def blocks_of(body: Mapping[str, Any]) -> tuple[Block, ...]:
    """Return the blocks of a Messages request; raises `SimError` (400) for marks that Anthropic refuses."""
    blocks = [_block(place, raw) for place, raw in _raw_blocks(body)]
    automatic = _kept_s(body, "cache_control")
    if automatic is not None and blocks and blocks[-1].kept_s is None:
        blocks[-1] = blocks[-1]._replace(kept_s=automatic)
    marks = [block.kept_s for block in blocks if block.kept_s is not None]
    if len(marks) > _MOST_MARKS:
        found = f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {len(marks)}."
        raise SimError(400, found, param="cache_control")
    if marks != sorted(marks, reverse=True):
        late = "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
        raise SimError(400, late, param="cache_control")
    return tuple(blocks)


def _raw_blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, tool in enumerate(fields.objects(body.get("tools"), "tools")):
        yield f"tools.{index}", tool
    messages = fields.objects(body.get("messages"), "messages")
    contents = [("system", body.get("system"))]
    contents += [(f"messages.{index}.content", message.get("content")) for index, message in enumerate(messages)]
    for place, content in contents:
        listed = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for index, block in enumerate(fields.objects(listed, place)):
            yield f"{place}.{index}", {**block, "place": place}


def _block(place: str, raw: Mapping[str, Any]) -> Block:
    kept_s = _kept_s(raw, place)
    if kept_s is not None and raw.get("type") == "text" and not raw.get("text"):
        raise SimError(400, f"{place}.text: cache_control cannot be set for empty text blocks", param=place)
    if kept_s is not None and raw.get("type") in ("thinking", "redacted_thinking"):
        raise SimError(400, f"{place}.cache_control: Extra inputs are not permitted", param=place)
    plain = {key: value for key, value in raw.items() if key != "cache_control"}
    return Block(digest(orjson.dumps(plain)), _tokens(raw), kept_s)


def _kept_s(raw: Mapping[str, Any], place: str) -> float | None:
    mark = raw.get("cache_control")
    if mark is None:
        return None
    kept_s = _KEPT_S.get(str(mark.get("ttl") or "5m")) if isinstance(mark, Mapping) else None
    if kept_s is None or mark.get("type") != "ephemeral":
        raise SimError(
            400, f"{place}.cache_control: Input should be ephemeral, with a ttl of '5m' or '1h'", param=place
        )
    return kept_s


def _tokens(raw: Mapping[str, Any]) -> int:
    match raw.get("type"):
        case "image" | "document":
            return fields.MEDIA_TOKENS
        case "text":
            return count_tokens(str(raw.get("text", "")))
        case "tool_result":
            content = raw.get("content")
            inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
            return sum(_tokens(part) for part in fields.objects(inner, "tool_result.content"))
        case "tool_use":
            return 1 + count_tokens(" ".join(map(str, fields.mapping(raw.get("input"), "input").values())))
        case "thinking" | "redacted_thinking":
            return count_tokens(str(raw.get("thinking", "")))
    return 1 + count_tokens(str(raw.get("description", "")))


def plain_blocks(head: Any, messages: Sequence[Mapping[str, Any]], turns: Sequence[Turn]) -> tuple[Block, ...]:
    """Return the blocks of a prompt that is cached without marks, () if it is too short; `head` comes before them."""
    tokens = [fields.tokens_of(turn) for turn in turns]
    if sum(tokens) < LEAST_TOKENS:
        return ()
    digests = (digest(orjson.dumps(message)) for message in messages)
    return (Block(digest(orjson.dumps(head)), 0), *map(Block, digests, tokens))


class PrefixCache:
    """The prefixes that are kept, apart for every scope (API key and model). `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[str, tuple[float, float]] = OrderedDict()  # until when, and for how long at a time

    def use(self, scope: str, blocks: Sequence[Block]) -> CacheUse:
        """Return what a request reads, and keep what it writes."""
        prefixes = list(accumulate((block.digest for block in blocks), digest, initial=scope))[1:]
        ends = list(accumulate(block.tokens for block in blocks))
        if all(block.kept_s is None for block in blocks):
            return CacheUse(self._automatic(prefixes, ends))
        marks = [at for at, block in enumerate(blocks) if block.kept_s is not None and ends[at] >= LEAST_TOKENS]
        hit = self._longest(prefixes, marks)
        for at in marks:
            self._keep(prefixes[at], blocks[at].kept_s or 0.0)
        read = 0 if hit is None else ends[hit]
        hour = max((ends[at] for at in marks if blocks[at].kept_s == _HOUR_S), default=0)
        last = ends[marks[-1]] if marks else 0
        return CacheUse(read, max(last - max(hour, read), 0), max(hour - read, 0))

    def _automatic(self, prefixes: Sequence[str], ends: Sequence[int]) -> int:
        """Keep every prefix that is long enough; return the tokens of the longest that was kept before."""
        now, read = self._clock(), 0
        for prefix, end in zip(prefixes, ends, strict=True):
            if end >= LEAST_TOKENS:
                if self._until.get(prefix, (now, 0.0))[0] > now:
                    read = end
                self._keep(prefix, _KEPT_S["5m"])
        return read // _STEP * _STEP

    def _longest(self, prefixes: Sequence[str], marks: Sequence[int]) -> int | None:
        now = self._clock()
        for mark in reversed(marks):
            for at in range(mark, max(mark - _LOOKED_BACK, -1), -1):
                until, kept_s = self._until.get(prefixes[at], (now, 0.0))
                if until > now:
                    self._keep(prefixes[at], kept_s)
                    return at
        return None

    def _keep(self, prefix: str, kept_s: float) -> None:
        self._until[prefix] = self._clock() + kept_s, kept_s
        self._until.move_to_end(prefix)
        if len(self._until) > _MOST_PREFIXES:
            self._until.popitem(last=False)
