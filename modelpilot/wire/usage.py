"""Token counts: OpenAI's `usage` object to and from `Usage`."""

from typing import Any

from modelpilot.outcome import Usage
from modelpilot.wire.jsonb import JsonObject, as_object


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
