"""A logged decision, read back for people: JSON of any version → typed rows. Unknown or missing parts are left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
