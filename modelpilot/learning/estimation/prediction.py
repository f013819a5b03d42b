"""The expectation for one model and request, and what is known of the request when it is made."""

from dataclasses import dataclass
from typing import NamedTuple

from modelpilot.requests.records import Vector


class Prediction(NamedTuple):  # made in half the time of a frozen dataclass, once per candidate
    """Expectations for one model and request. None means unknown; `evidence` is the number of neighbours used.

    `*_sd` are standard deviations: of the expectation for quality and latency, of this one request for cost and carbon.
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


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a request says about itself. `now` (Unix s) dates the history; 0.0 leaves its age out of account.

    `costs_from_history`: predict the cost of a model without prices from what it cost before, which recorded benchmarks
    need. Routers leave it off: there an unknown price is unknown.
    """

    prompt_tokens: int
    max_output_tokens: int | None = None
    request_type: str = "chat"
    vector: Vector | None = None
    cached_tokens: int = 0
    now: float = 0.0
    costs_from_history: bool = False
