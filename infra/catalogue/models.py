"""Which models are seeded, and what each can do.

Their ids are `provider/name`; the provider's own name stands beside where it differs.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of the seed: `name` as in our id, `provider_model` as its provider calls it."""

    provider: str
    name: str
    provider_model: str

    @property
    def id(self) -> str:
        """The catalogue id."""
        return f"{self.provider}/{self.name}"


# Chat completions and embeddings: no models for the responses API alone, for images, audio or fine-tuning.
_OPENAI = """
gpt-3.5-turbo gpt-4 gpt-4-turbo gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini gpt-4.1-nano
o1 o1-mini o3 o3-mini o4-mini
gpt-5 gpt-5-mini gpt-5-nano gpt-5.1 gpt-5.2 gpt-5.4 gpt-5.4-mini gpt-5.4-nano gpt-5.5
gpt-5.6-luna gpt-5.6-sol gpt-5.6-terra gpt-6-astra gpt-6-luna gpt-6-sol gpt-6.1-sol gpt-6.1-terra
text-embedding-ada-002 text-embedding-3-small text-embedding-3-large
"""
_ANTHROPIC = """
claude-2=claude-2.1 claude-3-haiku=claude-3-haiku-20240307 claude-3-sonnet=claude-3-sonnet-20240229
claude-3-opus=claude-3-opus-20240229 claude-3-5-haiku=claude-3-5-haiku-latest
claude-3-5-sonnet=claude-3-5-sonnet-latest claude-3-7-sonnet=claude-3-7-sonnet-latest
claude-sonnet-4-0 claude-opus-4-0 claude-opus-4-1 claude-haiku-4-5 claude-sonnet-4-5 claude-opus-4-5
claude-sonnet-4-6 claude-opus-4-6 claude-opus-4-7 claude-opus-4-8 claude-sonnet-5 claude-opus-5
claude-haiku-5-5 claude-sonnet-5-5 claude-opus-5-5 claude-fable-5 claude-fable-5-1 claude-fable-5-2
"""
_GOOGLE = """
gemini-1.5-flash gemini-1.5-pro gemini-2.0-flash gemini-2.0-flash-lite
gemini-2.5-flash-lite gemini-2.5-flash gemini-2.5-pro gemini-3-flash-preview gemini-3-pro-preview
gemini-3.1-flash-lite gemini-3.1-pro-preview gemini-3.5-flash gemini-3.5-flash-lite
gemini-3.6-flash gemini-3.7-flash gemini-3.8-flash gemini-4-argon gemini-embedding-001 gemini-embedding-2
"""
_OPENROUTER = """
meta-llama/llama-3.1-8b-instruct meta-llama/llama-3.1-70b-instruct meta-llama/llama-3.1-405b-instruct
meta-llama/llama-3.3-70b-instruct meta-llama/llama-4-scout meta-llama/llama-4-maverick
mistralai/mixtral-8x7b-instruct mistralai/mixtral-8x22b-instruct mistralai/mistral-nemo
mistralai/ministral-8b-2512 mistralai/mistral-small-2603 mistralai/mistral-medium-3.1 mistralai/mistral-large-2512
mistralai/codestral-2508 deepseek/deepseek-chat-v3-0324 deepseek/deepseek-r1 deepseek/deepseek-v3.2
deepseek/deepseek-v4-flash deepseek/deepseek-v4-pro qwen/qwen-2.5-7b-instruct qwen/qwen-2.5-72b-instruct
qwen/qwen3-32b qwen/qwen3-235b-a22b qwen/qwen3-coder qwen/qwen3-max qwen/qwen3.5-397b-a17b
x-ai/grok-4-fast x-ai/grok-4.3 x-ai/grok-code-fast-1 moonshotai/kimi-k2 moonshotai/kimi-k2-thinking
moonshotai/kimi-k2.5 z-ai/glm-4.5-air z-ai/glm-4.6 z-ai/glm-5 minimax/minimax-m2 microsoft/phi-4
cohere/command-r-08-2024 cohere/command-a openai/gpt-oss-20b openai/gpt-oss-120b
google/gemma-3-27b-it amazon/nova-lite-v1 amazon/nova-pro-v1
"""


def listed_models() -> list[Listed]:
    """All seeded models but the simulator's."""
    tables = {"openai": _OPENAI, "anthropic": _ANTHROPIC, "google": _GOOGLE, "openrouter": _OPENROUTER}
    return [_listed(provider, word) for provider, words in tables.items() for word in words.split()]


def _listed(provider: str, word: str) -> Listed:
    name, _, provider_model = word.partition("=")
    return Listed(provider, name, provider_model or name)


# The capabilities of a model, by rules over its id. Vendors' documentation is the source of every rule.
#
# - `embeddings`, and nothing else: the embeddings models, so that they are never candidates for a chat.
# - `chat`, `streaming`: all others.
# - `functions`: all but claude-2, o1-mini and the models of OpenRouter that are not known to take tools.
# - `json`: `response_format` natively (OpenAI from gpt-3.5-turbo-1106 and gpt-4-turbo on, but neither gpt-4 nor
#   o1-mini; Gemini), or through a tool whose arguments are the object (Claude from 3 on; OpenRouter's with tools).
# - `vision`: GPT-4 Turbo, 4o, 4.1, o1, o3, o4-mini and GPT-5 on; Claude 3 on; all of Gemini; a few of OpenRouter's.
# - `reasoning`: OpenAI's o series and GPT-5 on; Claude 3.7, Claude 4 on; Gemini 2.5 on; named ones of OpenRouter's.
# - `logprobs`: OpenAI's models that do not reason.
# - `analysis`: long documents and several steps: a context of at least 100,000 tokens, and either reasoning or a
#   quality prior of at least 0.85.

_EMBEDDINGS = re.compile(r"openai/text-embedding-|google/gemini-embedding-")
_NO_FUNCTIONS = re.compile(r"anthropic/claude-2|openai/o1-mini")
_NO_JSON = re.compile(r"anthropic/claude-2|openai/(gpt-4|o1-mini)$")
_VISION = re.compile(
    r"openai/(gpt-4-turbo|gpt-4o|gpt-4\.1|o1$|o3$|o4-mini|gpt-[5-9])|anthropic/claude-(?!2)|google/"
    r"|openrouter/(meta-llama/llama-4|mistralai/mistral-(small|medium|large)-|x-ai/grok-4|google/gemma-3|amazon/nova"
    r"|moonshotai/kimi-k2\.5|qwen/qwen3\.5)"
)
_REASONING = re.compile(
    r"openai/(o\d|gpt-[5-9])|anthropic/claude-(3-7|sonnet|opus|haiku|fable)|google/gemini-(2\.5|[3-9])"
    r"|openrouter/(deepseek/deepseek-(r1|v3\.2|v4)|moonshotai/kimi-k2(-thinking|\.5)|openai/gpt-oss|x-ai/grok-"
    r"|z-ai/glm|minimax/|qwen/qwen3(-32b|-235b|\.5))"
)
_OPENROUTER_TOOLS = re.compile(
    r"openrouter/(meta-llama/llama-(3\.[13]|4)|mistralai/(mistral|ministral|codestral|mixtral-8x22b)|deepseek/"
    r"|qwen/|x-ai/|moonshotai/|z-ai/|minimax/|cohere/|openai/|amazon/)"
)
_ANALYSIS_CONTEXT_TOKENS = 100_000
_ANALYSIS_QUALITY = 0.85


def capabilities_of(model_id: str, context_window: int | None, quality: float | None) -> list[str]:
    """The capabilities of a seeded model, sorted."""
    if _EMBEDDINGS.match(model_id):
        return ["embeddings"]
    openrouter = model_id.startswith("openrouter/")
    functions = bool(_OPENROUTER_TOOLS.match(model_id)) if openrouter else not _NO_FUNCTIONS.match(model_id)
    reasoning = bool(_REASONING.match(model_id))
    rules = {
        "chat": True,
        "streaming": True,
        "functions": functions,
        "json": functions and not _NO_JSON.match(model_id),
        "vision": bool(_VISION.match(model_id)),
        "reasoning": reasoning,
        "logprobs": model_id.startswith("openai/") and not reasoning,
        "analysis": (context_window or 0) >= _ANALYSIS_CONTEXT_TOKENS
        and (reasoning or (quality or 0.0) >= _ANALYSIS_QUALITY),
    }
    return sorted(name for name, present in rules.items() if present)
