"""Building `chat.completion.chunk` objects, one by one and from a whole completion, and reading token counts."""

from typing import Any

from modelpilot.requests.outcome import Usage
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

# These identify the stream, so every chunk has them; all else of a completion's top level goes out once.
_ON_EVERY_CHUNK = ("id", "created", "model", "service_tier", "system_fingerprint")


def chunk_of(base: JsonObject, choices: list[JsonObject], **fields: Any) -> JsonObject:
    """A chunk with the identity in `base` (id, created, model)."""
    return {**base, "object": "chat.completion.chunk", "choices": choices, **fields}


def choice_of(delta: JsonObject, *, index: int = 0, finish_reason: str | None = None) -> JsonObject:
    """One choice of a chunk."""
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def as_chunks(completion: JsonObject, *, include_usage: bool = True) -> list[JsonObject]:
    """The completion as a stream would have brought it: per choice its message and its end, then the usage.

    `ChunkAssembler` puts the same completion together again.
    """
    base = {key: completion[key] for key in _ON_EVERY_CHUNK if key in completion}
    known = {*base, "object", "choices", "usage"}
    rest = {key: value for key, value in completion.items() if key not in known}
    choices = as_objects(completion.get("choices"))
    chunks = [chunk_of(base, [_message_choice(choice)]) for choice in choices]
    chunks += [chunk_of(base, [_finish_choice(choice)]) for choice in choices]
    if rest or not chunks:
        chunks.insert(0, chunk_of(base, [], **rest))
    if include_usage and "usage" in completion:
        chunks.append(chunk_of(base, [], usage=completion["usage"]))
    return chunks


def _message_choice(choice: JsonObject) -> JsonObject:
    delta = dict(as_object(choice.get("message")))
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(as_objects(calls))]
    message = choice_of(delta, index=choice.get("index") or 0)
    return {**message, "logprobs": choice["logprobs"]} if "logprobs" in choice else message


def _finish_choice(choice: JsonObject) -> JsonObject:
    rest = {key: value for key, value in choice.items() if key not in ("message", "logprobs")}
    return {"index": 0, "finish_reason": None, **rest, "delta": {}}


def token_count(value: Any) -> int:
    """`value` where it is a plausible count, else 0: a provider's nonsense must not become a negative cost."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def parse_usage(usage: Any) -> Usage:
    """The counts in an OpenAI-shaped `usage` object; anything missing or absurd counts as 0.

    Cached tokens are part of the input and reasoning tokens part of the output, as OpenAI defines them. Some
    compatible servers count reasoning beside the output: their own total gives that away.
    """
    raw = as_object(usage)
    prompt, completion = token_count(raw.get("prompt_tokens")), token_count(raw.get("completion_tokens"))
    reasoning = token_count(as_object(raw.get("completion_tokens_details")).get("reasoning_tokens"))
    if reasoning and raw.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning
    cached = token_count(as_object(raw.get("prompt_tokens_details")).get("cached_tokens"))
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=min(cached or token_count(raw.get("prompt_cache_hit_tokens")), prompt),
        reasoning_tokens=min(reasoning, completion),
    )


def usage_object(usage: Usage) -> JsonObject:
    """`usage` as OpenAI's `usage` object."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
