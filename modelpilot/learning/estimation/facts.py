"""What the estimator is given (outcomes to learn from, facts of a request), and what it expects of a model."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return int(self.vectors.shape[1])


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a request says about itself.

    `costs_from_history`: predict the cost of a model without prices from what it cost before, which recorded benchmarks
    need. Routers leave it off: there an unknown price is unknown.
    """

    prompt_tokens: Floats | int  # by one count for all, or as each of the [models] counts
    max_output_tokens: int | None = None
    vector: Vector | None = None
    counted: NDArray[np.bool_] | bool = (
        False  # whether that is by the model's own ratio, and needs no factor of the fit
    )
    cached_tokens: Floats | int = 0  # of the prompt, in the cache of all or of each [models]
    costs_from_history: bool = False


class Learnt(NamedTuple):
    """Where an expected quality comes from: what the catalogue says, what the router has learnt of the model at every
    prompt (`level`) and at this one (`prompt`), the standard deviation of these together, and the grades behind them.
    `fitted` is what the fit of the router says instead, where it takes part."""

    catalogue: float
    level: float
    prompt: float
    sd: float
    grades: float
    fitted: float | None = None


class Prediction(NamedTuple):  # made in half the time of a frozen dataclass, once per candidate
    """Expectations for one model and request. None means unknown; `evidence` is the number of answers behind them.

    `*_sd` are standard deviations: of the expectation for quality and latency, of this one request for cost and carbon.
    `believed` is the quality that models are compared by (None: `quality`): a catalogue's differences count as far as
    they are believed.
    """

    cost_usd: float | None
    latency_ms: float
    quality: float
    carbon_g: float | None
    output_tokens: float
    evidence: int
    quality_sd: float = 0.0
    cost_sd_usd: float | None = None
    latency_sd_ms: float = 0.0
    carbon_sd_g: float | None = None
    believed: float | None = None
    learnt: Learnt | None = None
