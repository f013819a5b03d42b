"""The decision: every named model scored for this request, and the choice among those that can serve it."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from modelpilot.catalogue import ModelSpec
from modelpilot.decision import Candidate, Component, Decision, NeighbourUse
from modelpilot.eligibility import breaks_constraint, cannot_honour, cannot_serve
from modelpilot.errors import NoCandidate
from modelpilot.prediction import Prediction, predict
from modelpilot.profile import RequestProfile
from modelpilot.records import Neighbours, RouterSnapshot
from modelpilot.router import Router
from modelpilot.scoring import lower_is_better, weighted_total

EXPLAINED_NEIGHBOURS = 10  # a decision uses many, but lists the nearest ten
_UNITS = ("USD", "ms", "share", "gCO2e")

# Says of (provider id, model id) why it should not be called just now (breaker open, key refused), or None.
Blocked = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True)
class _Assessed:
    model: str
    spec: ModelSpec | None
    predicted: Prediction | None
    excluded_because: str | None
    blocked: bool = False  # excluded for the moment, and by nothing else


def nothing_blocked(provider: str, model: str) -> None:
    """A `Blocked` that has nothing against anybody."""


def decide(
    snapshot: RouterSnapshot,
    profile: RequestProfile,
    neighbours: Neighbours,
    draw: random.Random | None,
    degraded: tuple[str, ...] = (),
    blocked: Blocked = nothing_blocked,
) -> Decision:
    """Choose a model. Raises NoCandidate with the reason for each model when none can serve the request.

    Ties break by the cheaper model, then by name. With probability `exploration` a candidate is drawn at random
    instead (never without `draw`); `propensity` is the probability of what was chosen, whichever way. What is
    `blocked` is left out while anything else can serve; otherwise the best of it is tried rather than failing.
    """
    router = snapshot.router
    preferred = router.mode == "preferredModel" and router.preferred_model
    names = [router.preferred_model or ""] if preferred else list(dict.fromkeys(router.available_models))
    assess = _assessor(snapshot, profile, neighbours, blocked)
    assessed = [assess(name) for name in names]
    shares = (profile.options.objective or router.objective).shares()
    candidates = _score(assessed, shares)
    exploration = 0.0 if preferred else router.exploration
    chosen, propensity, explored = _choose(_ranked(candidates), exploration, draw)
    if chosen is None and preferred:
        chosen = next((a.model for a in map(assess, _fallbacks(router)) if a.excluded_because is None), None)
    if chosen is None:
        candidates, chosen = _best_blocked(assessed, shares)
    return Decision(
        mode=router.mode,
        selected=chosen,
        config_version=snapshot.version,
        candidates=tuple(candidates),
        neighbours=_explained(neighbours),
        propensity=propensity,
        explored=explored,
        degraded=degraded,
        prompt_tokens=profile.prompt_tokens,
        request_type=profile.request_type,
    )


def eligible_fallbacks(snapshot: RouterSnapshot, profile: RequestProfile, neighbours: Neighbours) -> tuple[str, ...]:
    """The router's fallback models, in order, without those that could not serve this request anyway."""
    assess = _assessor(snapshot, profile, neighbours, nothing_blocked)
    return tuple(name for name in _fallbacks(snapshot.router) if assess(name).excluded_because is None)


def no_candidate(candidates: Sequence[Candidate]) -> NoCandidate:
    """The error that says for each model why it cannot serve the request."""
    reasons = [{"model": c.model, "excludedBecause": c.excluded_because} for c in candidates]
    listing = "; ".join(f"{reason['model']}: {reason['excludedBecause']}" for reason in reasons)
    return NoCandidate(f"No model can serve this request. {listing}", param="model", details={"candidates": reasons})


def _fallbacks(router: Router) -> Sequence[str]:
    return router.fallback_strategy.fallback_models


def _assessor(
    snapshot: RouterSnapshot, profile: RequestProfile, neighbours: Neighbours, blocked: Blocked
) -> Callable[[str], _Assessed]:
    # What is the same for every candidate of a request is worked out once.
    call_format = profile.options.call_format or snapshot.router.call_format
    constraints = snapshot.router.constraints
    if profile.options.constraints is not None:
        constraints = constraints.narrowed(profile.options.constraints)
    dishonours = cache(lambda kind: cannot_honour(kind, profile.body))

    def assess(name: str) -> _Assessed:
        spec = snapshot.models.get(name)
        if spec is None:
            return _Assessed(name, None, None, snapshot.unavailable.get(name, "is not in the catalogue"))
        predicted = predict(spec, neighbours, profile.prompt_tokens, profile.max_output_tokens)
        reason = (
            snapshot.why_unavailable(name, call_format)
            or cannot_serve(spec, profile)
            or dishonours(snapshot.kind_of(name, call_format))
            or breaks_constraint(spec, predicted, constraints)
        )
        now = None if reason else blocked(call_format or spec.provider, name)
        return _Assessed(name, spec, predicted, reason or now, now is not None)

    return assess


def _best_blocked(assessed: Sequence[_Assessed], shares: Sequence[float]) -> tuple[list[Candidate], str]:
    """The best of those that are only blocked. Raises NoCandidate where there is none."""
    freed = [replace(a, excluded_because=None) if a.blocked else a for a in assessed]
    ranked = _ranked(_score(freed, shares))
    if not ranked:
        raise no_candidate(_score(assessed, shares))
    chosen = ranked[0].model
    tried = [free if free.model == chosen else a for a, free in zip(assessed, freed, strict=True)]
    return _score(tried, shares), chosen


def _score(assessed: Sequence[_Assessed], shares: Sequence[float]) -> list[Candidate]:
    # Excluded models are scored for the explanation, but must not influence the others' normalization.
    running = [a for a in assessed if a.excluded_because is None]
    scores = _component_scores([a.predicted for a in running if a.predicted is not None])
    scored = dict(zip((a.model for a in running), scores, strict=True))
    return [_candidate(a, scored.get(a.model), shares) for a in assessed]


def _component_scores(predicted: Sequence[Prediction]) -> list[tuple[float, float, float, float]]:
    cost = lower_is_better([p.cost_usd for p in predicted])
    latency = lower_is_better([p.latency_ms for p in predicted])
    carbon = lower_is_better([p.carbon_g for p in predicted])
    quality = [min(max(p.quality, 0.0), 1.0) for p in predicted]
    return list(zip(cost, latency, quality, carbon, strict=True))


def _candidate(
    assessed: _Assessed, scores: tuple[float, float, float, float] | None, shares: Sequence[float]
) -> Candidate:
    p = assessed.predicted
    raw = (p.cost_usd, p.latency_ms, p.quality, p.carbon_g) if p else (None, None, None, None)
    shown = scores or (0.0, 0.0, 0.0, 0.0)
    parts = [Component(r, u, s, w) for r, u, s, w in zip(raw, _UNITS, shown, shares, strict=True)]
    return Candidate(
        model=assessed.model,
        provider=assessed.spec.provider if assessed.spec else "",
        cost=parts[0],
        latency=parts[1],
        quality=parts[2],
        carbon=parts[3],
        total=weighted_total(scores, shares) if scores else None,
        excluded_because=assessed.excluded_because,
        evidence=p.evidence if p else 0,
    )


def _ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted((c for c in candidates if c.total is not None), key=_rank)


def _rank(candidate: Candidate) -> tuple[float, float, str]:
    cost = candidate.cost.raw
    # Rounded, so that two sums that differ in their last bit count as the tie they are.
    return (-round(candidate.total or 0.0, 12), float("inf") if cost is None else cost, candidate.model)


def _choose(
    ranked: Sequence[Candidate], exploration: float, draw: random.Random | None
) -> tuple[str | None, float, bool]:
    if not ranked:
        return None, 1.0, False
    chance = exploration / len(ranked)
    explored = draw is not None and exploration > 0.0 and draw.random() < exploration
    chosen = ranked[draw.randrange(len(ranked))] if draw is not None and explored else ranked[0]
    return chosen.model, chance + (1.0 - exploration if chosen is ranked[0] else 0.0), explored


def _explained(neighbours: Neighbours) -> tuple[NeighbourUse, ...]:
    return tuple(
        NeighbourUse(
            neighbours.request_ids[i],
            neighbours.models[i],
            round(float(neighbours.similarity[i]), 4),
            None if neighbours.quality[i] != neighbours.quality[i] else round(float(neighbours.quality[i]), 4),
        )
        for i in range(min(len(neighbours), EXPLAINED_NEIGHBOURS))
    )
