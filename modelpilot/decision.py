"""What was decided for a request and why. Dataclasses, since these cross the hot path and Temporal."""

from dataclasses import dataclass, field
from typing import Any


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

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it."""
        return {"raw": self.raw, "unit": self.unit, "score": round(self.score, 6), "weight": round(self.weight, 6)}


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

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "model": self.model,
            "provider": self.provider,
            "cost": self.cost.to_wire(),
            "latency": self.latency.to_wire(),
            "quality": self.quality.to_wire(),
            "carbon": self.carbon.to_wire(),
            "total": None if self.total is None else round(self.total, 6),
            "excludedBecause": self.excluded_because,
            "evidence": self.evidence,
        }


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

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it and the ledger stores it: no prompt text in it."""
        return {
            "mode": self.mode,
            "selectedModel": self.selected,
            "configVersion": self.config_version,
            "candidates": [candidate.to_wire() for candidate in self.candidates],
            "neighbours": [
                {"requestId": n.request_id, "model": n.model, "similarity": n.similarity, "quality": n.quality}
                for n in self.neighbours
            ],
            "propensity": round(self.propensity, 6),
            "explored": self.explored,
            "degraded": list(self.degraded),
            "promptTokens": self.prompt_tokens,
            "requestType": self.request_type,
        }
