"""What was decided for a request and why; and the same read back from its JSON, for people.

Candidates and their components are named tuples: every request makes dozens, in half the time of frozen dataclasses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from modelpilot.learning.estimation.facts import Learnt

# What kind of reason excludes a candidate: only a constraint can be judged anew when a logged decision is replayed.
Exclusion = Literal["unavailable", "request", "constraint", "blocked"]


class Component(NamedTuple):
    """One component of a candidate's score.

    `raw` is the prediction in `unit` (None: unknown) and `sd` its standard deviation, `score` its normalization to
    [0, 1] (higher is better), and `weight` the share of this component in the total.
    """

    raw: float | None
    unit: str
    score: float
    weight: float
    sd: float | None = None

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it."""
        raw, unit, score, weight, sd = self
        return {
            "raw": raw,
            "unit": unit,
            "score": round(score, 6),
            "weight": round(weight, 6),
            "sd": None if raw is None or sd is None else float(f"{sd:.4g}"),
        }


class Candidate(NamedTuple):
    """One model, scored for this request. `excluded_because` is set exactly where `total` is None."""

    model: str
    provider: str
    cost: Component
    latency: Component
    quality: Component
    carbon: Component
    total: float | None
    excluded_because: str | None = None
    evidence: int = 0  # answers of this model that are known
    excluded_by: Exclusion | None = None
    probability: float = 0.0  # of being chosen, exploration included
    prompt_tokens: int = 0  # as it counts them
    cached_tokens: int = 0  # of these, what its provider probably has in its cache
    learnt: Learnt | None = None  # where the expected quality comes from

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
            "excludedBy": self.excluded_by,
            "evidence": self.evidence,
            "probability": round(self.probability, 9),
            "promptTokens": self.prompt_tokens,
            "cachedTokens": self.cached_tokens,
            "learnt": None if self.learnt is None else _learnt(self.learnt),
        }


def _learnt(learnt: Learnt) -> dict[str, float | None]:
    fitted = None if learnt.fitted is None else round(learnt.fitted, 4)
    return {
        "catalogue": round(learnt.catalogue, 4),
        "level": round(learnt.level, 4),
        "prompt": round(learnt.prompt, 4),
        "sd": round(learnt.sd, 4),
        "grades": round(learnt.grades, 2),
        "fitted": fitted,
    }


class NeighbourUse(NamedTuple):
    """A past prompt like this one; `similarity` is the cosine in [-1, 1]."""

    request_id: str
    model: str
    similarity: float
    quality: float | None


@dataclass(frozen=True, slots=True)
class PredictorUse:
    """The fitted predictor that took part in a decision. `fitted_at` is Unix seconds."""

    version: int
    fitted_at: float

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it."""
        return {"version": self.version, "fittedAt": datetime.fromtimestamp(self.fitted_at, UTC).isoformat()}


@dataclass(frozen=True, slots=True)
class LearnerUse:
    """The state of what the router has learnt online that a decision was made with (0: nothing of its own yet), which
    estimator decided, and why. `updated_at` is Unix seconds."""

    version: int
    updated_at: float
    decided_by: Literal["online", "fit"]
    because: str

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "version": self.version,
            "updatedAt": datetime.fromtimestamp(self.updated_at, UTC).isoformat() if self.updated_at else None,
            "decidedBy": self.decided_by,
            "because": self.because,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """The whole decision. `propensity` is the probability with which `selected` was chosen.

    `overrides` is what the request itself laid down (`objective`: that it did; `constraints`: which); no change of the
    router's settings would have changed that.
    """

    mode: str
    selected: str
    config_version: int
    candidates: tuple[Candidate, ...]
    neighbours: tuple[NeighbourUse, ...] = ()
    propensity: float = 1.0
    explored: bool = False
    degraded: tuple[str, ...] = field(default=())
    prompt_tokens: int = 0  # by our own count, which the models' differ from
    text_tokens: int = 0  # of these, all but media: what a model's own count of it is compared with
    request_type: str = "chat"
    preferred: str | None = None  # the router's preferred model, whether or not it was chosen
    predictor: PredictorUse | None = None
    learner: LearnerUse | None = None
    requires: dict[str, Any] = field(default_factory=dict)  # what a model had to be able to do
    overrides: dict[str, Any] | None = None
    fallbacks: tuple[str, ...] = ()  # the router's, in order, without those that could not serve this request anyway
    next_models: tuple[str, ...] = ()  # whom a refusal goes on to: the fallbacks, then the best of the other candidates

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it and the ledger stores it: no prompt text in it."""
        return {
            "mode": self.mode,
            "selectedModel": self.selected,
            "preferredModel": self.preferred,
            "configVersion": self.config_version,
            "candidates": [candidate.to_wire() for candidate in self.candidates],
            "neighbours": [
                {"requestId": n.request_id, "model": n.model, "similarity": n.similarity, "quality": n.quality}
                for n in self.neighbours
            ],
            "propensity": round(self.propensity, 9),
            "explored": self.explored,
            "degraded": list(self.degraded),
            "promptTokens": self.prompt_tokens,
            "textTokens": self.text_tokens,
            "requestType": self.request_type,
            "predictor": self.predictor.to_wire() if self.predictor else None,
            "learner": self.learner.to_wire() if self.learner else None,
            "requires": self.requires,
            "overrides": self.overrides,
        }


# What follows reads a logged decision, of whatever version. Unknown and missing parts are left out.

COMPONENTS = ("quality", "cost", "latency", "carbon")


@dataclass(frozen=True, slots=True)
class Part:
    """One component: `raw` (in `unit`) became `score` in [0, 1], and counts `weight` of the total."""

    name: str
    raw: float | None
    unit: str
    score: float
    weight: float

    @property
    def weighted(self) -> float:
        """What it adds to the total."""
        return self.score * self.weight


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A candidate. `excluded_because` is a sentence where it could not be chosen; it then has no total."""

    model: str
    provider: str
    parts: tuple[Part, ...]
    total: float | None
    excluded_because: str | None
    evidence: int
    probability: float | None


@dataclass(frozen=True, slots=True)
class SimilarPrompt:
    """A past request that the decision leaned on; `similarity` is the cosine in [-1, 1]."""

    request_id: str
    model: str
    similarity: float | None
    quality: float | None


def scored_models(decision: Mapping[str, Any]) -> list[ScoredModel]:
    """The candidates, the best total first, the excluded ones last."""
    found = [_scored(one) for one in _mappings(decision.get("candidates"))]
    return sorted(found, key=lambda one: (one.total is None, -(one.total or 0.0), one.model))


def similar_prompts(decision: Mapping[str, Any]) -> list[SimilarPrompt]:
    """The neighbours, the most similar first."""
    found = [
        SimilarPrompt(_text(one, "requestId"), _text(one, "model"), _number(one, "similarity"), _number(one, "quality"))
        for one in _mappings(decision.get("neighbours"))
    ]
    return sorted(found, key=lambda one: -(one.similarity or 0.0))


def predictor_of(decision: Mapping[str, Any]) -> tuple[int, str] | None:
    """Version of the fitted predictor that took part, and when it was fitted (ISO 8601); None: none did."""
    used = decision.get("predictor")
    if not isinstance(used, Mapping) or not isinstance(used.get("version"), int):
        return None
    return used["version"], _text(used, "fittedAt")


def _scored(one: Mapping[str, Any]) -> ScoredModel:
    parts = [(name, one[name]) for name in COMPONENTS if isinstance(one.get(name), Mapping)]
    evidence = _number(one, "evidence")
    return ScoredModel(
        model=_text(one, "model"),
        provider=_text(one, "provider"),
        parts=tuple(_part(name, part) for name, part in parts),
        total=_number(one, "total"),
        excluded_because=one.get("excludedBecause") or None,
        evidence=int(evidence or 0),
        probability=_number(one, "probability"),
    )


def _part(name: str, part: Mapping[str, Any]) -> Part:
    score, weight = _number(part, "score") or 0.0, _number(part, "weight") or 0.0
    return Part(name, _number(part, "raw"), _text(part, "unit"), score, weight)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _number(values: Mapping[str, Any], name: str) -> float | None:
    found = values.get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _text(values: Mapping[str, Any], name: str) -> str:
    found = values.get(name)
    return found if isinstance(found, str) else ""
