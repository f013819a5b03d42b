"""The stored outcomes of one router, as columns to learn from."""

from dataclasses import dataclass

from modelpilot.arrays import Floats, Indices
from modelpilot.requests.records import Vector


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """n outcomes of m models on p prompts. `prompt` and `model` index into the other tables; NaN means unknown.

    One prompt may have the outcome of one model (production) or of every model (recorded benchmarks): a vector that
    several outcomes share is given once.
    """

    vectors: Vector  # [p, dimension] as the embedder made them
    models: tuple[str, ...]  # [m]
    prompt: Indices  # [n] index into `vectors`
    model: Indices  # [n] index into `models`
    quality: Floats  # [n] in [0, 1]
    quality_weight: Floats  # [n] in [0, 1]: share of the row's weight that its quality has; 1 for a person's word
    input_tokens: Floats  # [n]
    output_tokens: Floats  # [n]
    cost_usd: Floats  # [n]
    latency_ms: Floats  # [n] whole answer
    ttft_ms: Floats  # [n]
    count: Floats  # [n] how many requests the row stands for
    timestamp: Floats  # [n] Unix seconds
    request_types: tuple[str, ...] = ()  # [p], or empty where they are not known

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return int(self.vectors.shape[1])
