"""What was decided for a request and why. Dataclasses, since these cross the hot path and Temporal."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a candidate's score.

    `raw` is the prediction in `unit` (None: unknown), `score` its normalization to [0, 1] (higher is better), and
    `weight` the share of this component in the total.
    """

    raw: float | None
    unit: str
    score: float
    weight: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model, scored for this request. `excluded_because` is set exactly where `total` is None."""

    model: str
    provider: str
    cost: Component
    latency: Component
    quality: Component
    carbon: Component
    total: float | None
    excluded_because: str | None = None
    evidence: int = 0  # neighbours that speak of this model


@dataclass(frozen=True, slots=True)
class NeighbourUse:
    """A past prompt that the decision leaned on; `similarity` is the cosine in [-1, 1]."""

    request_id: str
    model: str
    similarity: float
    quality: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The whole decision. `propensity` is the probability with which `selected` was chosen."""

    mode: str
    selected: str
    config_version: int
    candidates: tuple[Candidate, ...]
    neighbours: tuple[NeighbourUse, ...] = ()
    propensity: float = 1.0
    explored: bool = False
    degraded: tuple[str, ...] = field(default=())
    prompt_tokens: int = 0
    request_type: str = "chat"
