"""What each seeded model can do, by rules over its id. Vendors' documentation is the source of every rule.

- `embeddings`, and nothing else: the embeddings models, so that they are never candidates for a chat.
- `chat`, `streaming`: all others.
- `functions`: all but claude-2, o1-mini and the models of OpenRouter that are not known to take tools.
- `json`: `response_format` natively (OpenAI from gpt-3.5-turbo-1106 and gpt-4-turbo on, but neither gpt-4 nor o1-mini;
  Gemini), or through a tool whose arguments are the object (Claude from 3 on; OpenRouter's models with tools).
- `vision`: GPT-4 Turbo, 4o, 4.1, o1, o3, o4-mini and GPT-5 on; Claude 3 on; all of Gemini; a few of OpenRouter's.
- `reasoning`: OpenAI's o series and GPT-5 on; Claude 3.7, Claude 4 on; Gemini 2.5 on; named ones of OpenRouter's.
- `logprobs`: OpenAI's models that do not reason.
- `analysis`: long documents and several steps: a context of at least 100,000 tokens, and either reasoning or a quality
  prior of at least 0.85.
"""

import re

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
