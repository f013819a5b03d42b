"""The simulator's models: latency, list price, quality and carbon, in one table."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SimModel:
    """What one simulated model costs and how well it behaves.

    `ttft_ms` is the wait before the first token in milliseconds, `tokens_per_second` the pace after it. Prices are in
    USD per token, declared but never charged. `quality` is in [0, 1]: the model answers rightly exactly those prompts
    whose difficulty (`answers.difficulty`) does not exceed it. `answer_tokens` is the range of an answer's length.
    """

    name: str
    ttft_ms: float
    tokens_per_second: float
    input_usd: float
    cached_input_usd: float
    output_usd: float
    quality: float
    carbon_g_per_1k_tokens: float
    context_window: int
    max_output_tokens: int
    answer_tokens: tuple[int, int]

    @property
    def avg_latency_ms(self) -> float:
        """The time a whole answer of middling length takes, in milliseconds."""
        return self.ttft_ms + 1000 * sum(self.answer_tokens) / 2 / self.tokens_per_second


_TABLE = (
    SimModel("small", 120, 250, 0.15e-6, 0.075e-6, 0.6e-6, 0.6, 0.05, 16_384, 4_096, (30, 60)),
    SimModel("medium", 250, 150, 0.8e-6, 0.4e-6, 4e-6, 0.8, 0.3, 65_536, 8_192, (40, 80)),
    SimModel("large", 500, 80, 3e-6, 1.5e-6, 15e-6, 0.95, 1.5, 262_144, 16_384, (50, 100)),
)
MODELS = {model.name: model for model in _TABLE}
# Any name that is not in the table, such as `gpt-4`, behaves like this one, so that a test may keep its real names.
DEFAULT = SimModel("default", 200, 200, 1e-6, 0.5e-6, 4e-6, 0.8, 0.5, 131_072, 16_384, (40, 80))


def find(name: str) -> SimModel:
    """Return the model called `name` (a prefix such as `sim/` is ignored), or the default for any other name."""
    return MODELS.get(name.rsplit("/", 1)[-1], DEFAULT)


def listing(model: SimModel) -> dict[str, Any]:
    """Describe `model` as an item of OpenAI's `GET /v1/models`, with its prices (USD per token) and limits."""
    return {
        "id": model.name,
        "object": "model",
        "created": 1_735_689_600,  # 2025-01-01T00:00:00Z: a constant, because nothing about the list changes.
        "owned_by": "modelpilot-simulator",
        "avgLatencyMs": model.avg_latency_ms,
        "ttftMs": model.ttft_ms,
        "tokensPerSecond": model.tokens_per_second,
        "costPerInputToken": model.input_usd,
        "costPerCachedInputToken": model.cached_input_usd,
        "costPerOutputToken": model.output_usd,
        "qualityScore": model.quality,
        "carbonGPer1kTokens": model.carbon_g_per_1k_tokens,
        "limits": {"maxTokens": model.max_output_tokens, "contextWindow": model.context_window},
    }
