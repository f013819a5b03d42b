"""Where Claude's thinking stands among the texts and calls of an answer.

Claude takes its signed blocks back only in the order in which it wrote them, and OpenAI's messages have one place for
all texts and one for all calls. So a block that is not the first says in `after` how much of both came before it, and
`index` is its place among the thinking, by which SDKs add up deltas. `model` says who signed it: other models refuse
it. None of them reaches Claude.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.usage import token_count

_PLACE = frozenset({"index", "after"})
# Who signs thinking in Anthropic's format; other names say nothing about who is behind them.
_SIGNERS = re.compile(r"(?:claude|glm|minimax|kimi|deepseek|mimo|qwen)-?[a-z0-9.-]*[a-z0-9]")
_DATED = re.compile(r"-20\d{6}.*|-latest|-v\d.*|-0$")


@lru_cache(maxsize=4_096)
def signer(model: str) -> str:
    """The model by the name that it has everywhere, without dates and addresses; empty where its name says nothing."""
    found = _SIGNERS.search(model.lower())
    return _DATED.sub("", found[0]).replace(".", "-") if found else ""


def placed(block: JsonObject, index: int, characters: int, calls: int, model: str = "") -> JsonObject:
    """The thinking `block` of `model`, number `index` of its answer, behind this many `characters` and `calls`."""
    own: JsonObject = {"index": index} if index else {}
    if characters or calls:
        own["after"] = {"characters": characters, "calls": calls}
    if by := signer(model):
        own["model"] = by
    return {**block, **own}


def signed(blocks: Any) -> list[JsonObject]:
    """Those of the thinking `blocks` that somebody signed."""
    return [block for block in as_objects(blocks) if _is_signed(block)]


def readable(blocks: Any, model: str) -> list[JsonObject]:
    """The signed ones that are not known to be another model's, as `model` wrote them but for their places."""
    by = signer(model)
    own = [block for block in signed(blocks) if not by or block.get("model") in (None, by)]
    return [{key: value for key, value in block.items() if key != "model"} for block in own]


def _is_signed(block: JsonObject) -> bool:
    kind = block.get("type")
    return bool(block.get("signature")) if kind == "thinking" else kind == "redacted_thinking"


def unplaced(block: JsonObject) -> JsonObject:
    """The block without its place."""
    return {key: value for key, value in block.items() if key not in _PLACE}


def in_order(thinking: list[JsonObject], texts: list[JsonObject], calls: list[JsonObject]) -> list[JsonObject]:
    """All content blocks of an answer as Claude wrote them: thinking where it was, texts before calls in between."""
    blocks: list[JsonObject] = []
    done_characters = done_calls = 0
    rest = [*texts]
    for block in thinking:
        after = as_object(block.get("after"))
        characters, behind = token_count(after.get("characters")), token_count(after.get("calls"))
        blocks += _taken(rest, characters - done_characters)
        done_characters = max(done_characters, characters)
        blocks += calls[done_calls:behind]
        done_calls = max(done_calls, behind)
        blocks.append(unplaced(block))
    return [*blocks, *rest, *calls[done_calls:]]


def _taken(rest: list[JsonObject], characters: int) -> Iterator[JsonObject]:
    """Take the next so many `characters` off the text blocks `rest`, in the middle of one where need be."""
    while rest and characters > 0:
        text = str(rest[0].get("text") or "")
        if len(text) <= characters:
            yield rest.pop(0)
        else:
            yield {"type": "text", "text": text[:characters]}  # marks, for caches, stay at the end
            rest[0] = {**rest[0], "text": text[characters:]}
        characters -= len(text)
