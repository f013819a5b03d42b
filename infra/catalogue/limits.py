"""The longest answer of every seeded model, and context windows that genai-prices lacks. Both in tokens.

Sources, read by hand in November 2026:

- OpenAI's model pages (developers.openai.com/api/docs/models), "max output tokens".
- Anthropic's models overview (platform.claude.com/docs/en/about-claude/models/overview), "max output".
- Google's model pages (ai.google.dev/gemini-api/docs/models), "output token limit".
- OpenRouter's model pages and the vendors' own for windows, and for answers of models that Cohere, Amazon, Google
  and DeepSeek give a limit of their own.

Where a vendor states no limit for answers (most models with open weights, Mistral's, xAI's), the window is the only
one: an answer may fill what the prompt leaves of it. An embeddings model answers no tokens; 1 stands for its vector.
"""

import re

from infra.catalogue.models import Listed

# The first match counts.
_ANSWERS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), tokens)
    for pattern, tokens in (
        (r"openai/text-embedding-|google/gemini-embedding-", 1),
        (r"openai/(gpt-3\.5-turbo|gpt-4-turbo)$", 4_096),
        (r"openai/gpt-4$", 8_192),
        (r"openai/gpt-4o", 16_384),
        (r"openai/gpt-4\.1", 32_768),
        (r"openai/o1-mini$", 65_536),
        (r"openai/o\d", 100_000),
        (r"openai/gpt-[5-9]", 128_000),
        (r"anthropic/claude-(2|3-haiku|3-sonnet|3-opus)$", 4_096),
        (r"anthropic/claude-3-5-", 8_192),
        (r"anthropic/claude-opus-4-[01]$", 32_000),
        (r"anthropic/claude-(3-7-sonnet|sonnet-4-[05]|opus-4-5|haiku-4-5)$", 64_000),
        (r"anthropic/claude-", 128_000),
        (r"google/gemini-(1\.5|2\.0)-", 8_192),
        (r"google/gemini-", 65_536),
        (r"openrouter/cohere/command-r-", 4_000),
        (r"openrouter/cohere/command-a", 8_000),
        (r"openrouter/amazon/nova-", 5_120),
        (r"openrouter/google/gemma-3-", 8_192),
        (r"openrouter/deepseek/deepseek-v4-", 384_000),
        (r"openrouter/(minimax/minimax-m2|z-ai/glm-(4\.6|5)$)", 131_072),
        (r"openrouter/z-ai/glm-4\.5-air", 98_304),
    )
)

_WINDOWS = {
    # Google's documented windows.
    "gemini-2.5-pro": 1_048_576,
    "gemini-3-pro-preview": 1_048_576,
    "gemini-3.1-pro-preview": 1_048_576,
    "gemini-embedding-001": 2_048,
    # OpenRouter's. A model is served with several windows there: this is the vendor's, or the largest offered.
    "deepseek/deepseek-v3.2": 163_840,
    "deepseek/deepseek-v4-flash": 1_048_576,
    "deepseek/deepseek-v4-pro": 1_048_576,
    "google/gemma-3-27b-it": 131_072,
    "meta-llama/llama-3.1-8b-instruct": 131_072,
    "meta-llama/llama-3.1-405b-instruct": 131_072,
    "meta-llama/llama-3.3-70b-instruct": 131_072,
    "meta-llama/llama-4-scout": 327_680,
    "meta-llama/llama-4-maverick": 1_048_576,
    "minimax/minimax-m2": 196_608,
    "mistralai/mistral-nemo": 131_072,
    "mistralai/mistral-small-2603": 262_144,
    "mistralai/mixtral-8x7b-instruct": 32_768,
    "moonshotai/kimi-k2.5": 262_144,
    "openai/gpt-oss-120b": 131_072,
    "qwen/qwen-2.5-72b-instruct": 32_768,
    "qwen/qwen3-32b": 40_960,
    "qwen/qwen3-coder": 262_144,
    "qwen/qwen3.5-397b-a17b": 262_144,
    "z-ai/glm-4.6": 202_752,
    "z-ai/glm-5": 202_752,
}


def context_window(model: Listed, known: int | None) -> int | None:
    """The model's window, where it is not `known` already; None where nobody says."""
    return known or _WINDOWS.get(model.name)


def longest_answer(model_id: str, window: int | None) -> int | None:
    """The most output tokens of a seeded model with this context window; None where nothing is known."""
    stated = next((tokens for pattern, tokens in _ANSWERS if pattern.match(model_id)), None)
    return window if stated is None else min(stated, window or stated)
