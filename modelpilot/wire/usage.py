"""Token counts as providers report them: found wherever a server puts them, read whatever it calls them, and written in
OpenAI's words.
"""

import math
from collections.abc import Iterator
from typing import Any

from modelpilot.requests.outcome import Usage
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

# More than any call can have; beyond it a provider's word is not believed.
MOST_TOKENS = 100_000_000
# What no single call is charged (USD); beyond it, likewise.
MOST_USD = 10_000.0


def token_count(value: Any) -> int:
    """`value` where it is a count, also as a float or as text; else 0: a provider's nonsense must not become a negative
    cost."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return max(int(value), 0)


def usage_in(chunk: JsonObject) -> JsonObject | None:
    """The report in a chunk or completion: at the top, in Groq's `x_groq`, in a choice (Moonshot), or in Ollama's own
    names; the one with counts where there are several. None: there is none."""
    found: JsonObject | None = None
    for place in _places(chunk):
        if isinstance(place, dict):
            found = found or place
            if any(map(token_count, place.values())):
                return place
    return found


def _places(chunk: JsonObject) -> Iterator[Any]:
    yield chunk.get("usage")
    if "x_groq" in chunk:
        yield as_object(chunk["x_groq"]).get("usage")
    for choice in as_objects(chunk.get("choices")):
        if "usage" in choice:
            yield choice["usage"]
    if "eval_count" in chunk:
        yield {"prompt_tokens": chunk.get("prompt_eval_count"), "completion_tokens": chunk["eval_count"]}


# Names of the tokens read from a prompt cache: OpenAI's, Anthropic's (LiteLLM keeps them), DeepSeek's.
_READ = ("cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens")
# Of those written to it: OpenRouter's, Anthropic's and Alibaba's, LiteLLM's.
_WRITTEN = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
_INPUT = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "prompt_token_count", "promptTokenCount")
_OUTPUT = (
    "completion_tokens", "output_tokens", "completionTokens", "outputTokens", "generated_tokens",
    "candidates_token_count", "candidatesTokenCount",
)  # fmt: skip
_TOTAL = ("total_tokens", "totalTokens", "total_token_count", "totalTokenCount")


def cache_counts(raw: JsonObject) -> tuple[int, int, int]:
    """Tokens read from a prompt cache, written to it for five minutes, and written for an hour, under whichever names
    the provider has for them; without a word on the time they were written for five minutes, as is Anthropic's rule."""
    split = as_object(raw.get("cache_creation") or raw.get("cache_creation_token_details"))
    hour = token_count(split.get("ephemeral_1h_input_tokens"))
    five = token_count(split.get("ephemeral_5m_input_tokens"))
    written = max(hour + five, *(token_count(raw.get(name)) for name in _WRITTEN))
    return max(token_count(raw.get(name)) for name in _READ), written - hour, hour


def parse_usage(usage: Any) -> Usage:
    """The counts in a `usage` object of OpenAI's format or its like; anything missing or absurd counts as 0.

    Cached tokens, read and written, are part of the input and reasoning tokens part of the output, as OpenAI defines
    them. Some compatible servers count them beside it: their own total gives that away. A total alone is the input's
    until somebody knows better.
    """
    raw = as_object(usage)
    prompt, completion, total = (_first(raw, names) for names in (_INPUT, _OUTPUT, _TOTAL))
    taken, given = (_details(raw, *names) for names in (("prompt", "input"), ("completion", "output")))
    reasoning = token_count(given.get("reasoning_tokens"))
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning
    # Moonshot has the name of OpenAI's detail at the top, LiteLLM and Portkey Anthropic's names.
    cached, five, hour = cache_counts({**raw, **taken})
    beside = cached + five + hour
    if beside and total == prompt + completion + beside:
        prompt += beside
    elif total > prompt and not completion:  # the side that is not there has the rest
        prompt, completion = prompt or total, total - prompt if prompt else 0
    cached = min(cached, prompt)
    hour = min(hour, prompt - cached)
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=cached,
        reasoning_tokens=min(reasoning, completion),
        cache_write_5m_tokens=min(five, prompt - cached - hour),
        cache_write_1h_tokens=hour,
        audio_input_tokens=min(token_count(taken.get("audio_tokens")), prompt),
        audio_output_tokens=min(token_count(given.get("audio_tokens")), completion),
        image_input_tokens=min(token_count(taken.get("image_tokens")), prompt),
        image_output_tokens=min(token_count(given.get("image_tokens")), completion),
        web_searches=_searches(raw),
    )


def has_total_only(usage: Any) -> bool:
    """Whether the report has a total, and neither of its sides."""
    raw = as_object(usage)
    return _first(raw, _TOTAL) > 0 and not _first(raw, _INPUT) and not _first(raw, _OUTPUT)


def _first(raw: JsonObject, names: tuple[str, ...]) -> int:
    return next((count for name in names if (count := token_count(raw.get(name)))), 0)


def _details(raw: JsonObject, *sides: str) -> JsonObject:
    names = (f"{side}{ending}" for side in sides for ending in ("_tokens_details", "_token_details", "TokensDetails"))
    return next((found for name in names if (found := as_object(raw.get(name)))), {})


def _searches(raw: JsonObject) -> int:
    """Searches of the web that the provider made: Anthropic's and OpenRouter's count, Perplexity's, xAI's."""
    own = as_object(raw.get("server_tool_use")).get("web_search_requests")
    return max(map(token_count, (own, raw.get("num_search_queries"), raw.get("num_sources_used"))))


def charged_usd(usage: Any) -> float | None:
    """What the provider says that the call cost: OpenRouter's `usage.cost` (with the key's own bill where that pays the
    model), Perplexity's object. None: it does not say, or nothing that can be meant."""
    raw = as_object(usage)
    said = raw.get("cost")
    if isinstance(said, dict):
        said = said.get("total_cost")
    if raw.get("is_byok") is True:
        said = _sum(said, as_object(raw.get("cost_details")).get("upstream_inference_cost"))
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0.0 <= said <= MOST_USD:
        return None
    return round(float(said), 12)  # in our smallest amount, so that sums of it are exact


def _sum(fee: Any, upstream: Any) -> Any:
    return fee + upstream if all(isinstance(each, int | float) for each in (fee, upstream)) else None


def usage_object(usage: Usage) -> JsonObject:
    """`usage` as OpenAI's `usage` object. What was written to a cache is there where anything was: the sum under
    OpenRouter's name, how much for how long under Anthropic's."""
    taken: JsonObject = {"cached_tokens": usage.cached_tokens}
    given: JsonObject = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.cache_write_tokens:
        taken |= {"cache_write_tokens": usage.cache_write_tokens, "cache_creation": cache_creation(usage)}
    for details, kinds in ((taken, _TAKEN), (given, _GIVEN)):
        details |= {name: count for name, field in kinds.items() if (count := getattr(usage, field))}
    shown = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": taken,
        "completion_tokens_details": given,
    }
    searches = {"server_tool_use": {"web_search_requests": usage.web_searches}} if usage.web_searches else {}
    return shown | searches


_TAKEN = {"audio_tokens": "audio_input_tokens", "image_tokens": "image_input_tokens"}
_GIVEN = {"audio_tokens": "audio_output_tokens", "image_tokens": "image_output_tokens"}


def cache_creation(usage: Usage) -> JsonObject:
    """What was written to a prompt cache for how long, in Anthropic's words."""
    return {
        "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
        "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
    }
