"""The decision: every named model scored for this request, and the choice among those that can serve it."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from modelpilot.chat.profile import RequestProfile
from modelpilot.errors import ContextLengthExceeded, NoCandidate
from modelpilot.learning.estimation import FittedPredictor, Outlooks, Prediction, RequestFacts, predict
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import Deployment, Deployments
from modelpilot.providers.fitting import dishonours
from modelpilot.providers.token_ratios import Ratios, no_ratios, tokens_for
from modelpilot.requests.records import EXPLAINED_NEIGHBOURS, Neighbours, RouterSnapshot, Vector
from modelpilot.routing.decision import Candidate, Component, Decision, Exclusion, NeighbourUse
from modelpilot.routing.eligibility import breaks_constraint, cannot_serve, exceeds_window
from modelpilot.routing.exploration import winning_shares
from modelpilot.routing.router import Constraints, Router
from modelpilot.routing.scoring import lower_is_better, weighted_total

_UNITS = ("USD", "ms", "share", "gCO2e")  # of cost, latency, quality and carbon, as everywhere below
_UNSCORED = (0.0, 0.0, 0.0, 0.0)
_UNKNOWN = (None, None, None, None)
_NO_CONSTRAINTS = Constraints()
# So many of the decision's other candidates are tried where models refuse a request, beside the configured fallbacks.
MOST_CANDIDATES_TRIED = 3

# Says of a model and its deployments why it should not be called just now (every breaker open, every key refused,
# every deployment rate limited), or None.
Blocked = Callable[[str, Sequence[Deployment]], str | None]


# Tokens of the prompt in the cache of a model's deployment.
Warm = Mapping[tuple[str, Deployment], int]
nothing_warm: Warm = {}


class _Assessed(NamedTuple):  # made in half the time of a frozen dataclass, once per candidate
    model: str
    spec: ModelSpec | None
    predicted: Prediction | None
    excluded_because: str | None
    excluded_by: Exclusion | None = None
    prompt_tokens: int = 0


def nothing_blocked(model: str, deployments: Sequence[Deployment]) -> None:
    """A `Blocked` that has nothing against anybody."""


def decide(
    snapshot: RouterSnapshot,
    profile: RequestProfile,
    neighbours: Neighbours,
    draw: random.Random | None,
    degraded: tuple[str, ...] = (),
    blocked: Blocked = nothing_blocked,
    fitted: FittedPredictor | None = None,
    vector: Vector | None = None,
    learnt: Outlooks | None = None,
    warm: Warm = nothing_warm,
    ratios: Ratios = no_ratios,
) -> Decision:
    """Choose a model. Raises NoCandidate with the reason for each model when none can serve the request.

    Ties break by the cheaper model, then by name. With probability `exploration` a candidate is drawn by Thompson
    sampling instead (never without `draw`); `propensity` is the probability of what was chosen, whichever way. What is
    `blocked` is left out while anything else can serve; otherwise the best of it is tried rather than failing.
    `learnt` is what the router has learnt online, `fitted` a fit of it that was admitted; both look at the `vector` of
    the prompt. The neighbours are those that an explanation shows.
    `warm` has the tokens of the prompt that deployments hold in their caches, which cost less there; `ratios` how many
    tokens models count to one of ours.
    """
    router = snapshot.router
    preferred = router.mode == "preferredModel" and router.preferred_model
    deployments = _deployments(snapshot, profile)
    tokens = prompt_tokens_of(snapshot, profile, ratios)
    cached = _cached_tokens(deployments, warm, tokens, profile.prompt_tokens) if warm else {}
    facts = _facts(profile, vector, tokens, cached, ratios)
    columns = snapshot.columns_at(tokens)
    outlook = learnt.of(columns) if learnt is not None else None
    predicted = dict(zip(snapshot.models, predict(columns, facts, outlook, fitted), strict=True))
    assess = _assessor(snapshot, profile, predicted, deployments, tokens)
    assessed = [assess(name, blocked) for name in _named(router)]
    shares = (profile.options.objective or router.objective).shares()
    exploration = 0.0 if preferred else router.exploration
    candidates = _score(assessed, shares)
    ranked = _ranked(candidates)
    chances = _chances(ranked, exploration)
    candidates = [c._replace(probability=chances[c.model]) if c.model in chances else c for c in candidates]
    chosen, explored = _choose(ranked, chances, exploration, draw)
    propensity = 1.0 if chosen is None else chances[chosen]
    named = router.fallback_strategy.fallback_models
    if chosen is None and preferred:
        chosen = next((name for name in named if assess(name, blocked).excluded_because is None), None)
    if chosen is None:
        candidates, chosen = _best_blocked(assessed, shares, profile, tokens)
    # What is blocked now may be well again when its turn comes.
    fallbacks = tuple(name for name in named if assess(name, nothing_blocked).excluded_because is None)
    if cached:
        candidates = [c._replace(cached_tokens=cached.get(c.model, 0)) for c in candidates]
    return Decision(
        selected=chosen,
        candidates=tuple(candidates),
        neighbours=_explained(neighbours),
        propensity=propensity,
        explored=explored,
        degraded=degraded,
        fallbacks=fallbacks,
        next_models=_next_models(chosen, fallbacks, ranked),
        **_asked(profile, snapshot),
    )


def _next_models(chosen: str, fallbacks: Sequence[str], ranked: Sequence[Candidate]) -> tuple[str, ...]:
    others = [candidate.model for candidate in ranked if candidate.model not in (chosen, *fallbacks)]
    return tuple(dict.fromkeys(name for name in (*fallbacks, *others[:MOST_CANDIDATES_TRIED]) if name != chosen))


def _named(router: Router) -> Sequence[str]:
    if router.mode == "preferredModel" and router.preferred_model:
        return [router.preferred_model]
    return list(dict.fromkeys(router.available_models))


def _asked(profile: RequestProfile, snapshot: RouterSnapshot) -> dict[str, Any]:
    """What a decision records of its request and router."""
    return {
        "mode": snapshot.router.mode,
        "config_version": snapshot.version,
        "preferred": snapshot.router.preferred_model,
        "prompt_tokens": profile.prompt_tokens,
        "text_tokens": profile.size.text_tokens,
        "request_type": profile.request_type,
        "requires": {"capabilities": sorted(profile.capabilities), "maxOutputTokens": profile.max_output_tokens},
        "overrides": profile.options.overrides(),
    }


def _no_candidate(assessed: Sequence[_Assessed], profile: RequestProfile, tokens: Mapping[str, int]) -> NoCandidate:
    """The error that says for each model why it cannot serve the request."""
    reasons = [{"model": each.model, "excludedBecause": each.excluded_because} for each in assessed]
    sentences = "; ".join(f"{reason['model']}: {reason['excludedBecause']}" for reason in reasons)
    details = {"candidates": reasons}
    # Where a shorter prompt would be served, the error says so in the words that clients know from the providers.
    windows = [
        (each.spec.limits.context_window or 0, tokens[each.model])
        for each in assessed
        if each.spec is not None and each.excluded_because == exceeds_window(each.spec, profile, tokens[each.model])
    ]
    if windows:
        largest, needed = max(windows)
        needed += profile.max_output_tokens or 0
        text = f"prompt is too long: {needed} tokens > {largest} maximum context length. {sentences}"
        return ContextLengthExceeded(text, param="messages", details=details)
    return NoCandidate(f"No model can serve this request. {sentences}", param="model", details=details)


def prompt_tokens_of(snapshot: RouterSnapshot, profile: RequestProfile, ratios: Ratios) -> dict[str, int]:
    """The prompt's tokens as each of the router's models counts them."""
    size = profile.size
    if not size.media and not ratios:
        return dict.fromkeys(snapshot.models, size.tokens)
    return {
        model: tokens_for(size, spec, snapshot.kind_of(spec.provider), ratios)
        for model, spec in snapshot.models.items()
    }


def _facts(
    profile: RequestProfile,
    vector: Vector | None,
    tokens: Mapping[str, int],
    cached: Mapping[str, int],
    ratios: Ratios,
) -> RequestFacts:
    return RequestFacts(
        np.array(list(tokens.values()), np.float64),
        profile.max_output_tokens,
        vector=vector,
        counted=np.array([model in ratios for model in tokens], np.bool_) if ratios else False,
        cached_tokens=np.array([cached.get(model, 0) for model in tokens], np.float64) if cached else 0,
    )


def _deployments(snapshot: RouterSnapshot, profile: RequestProfile) -> Mapping[str, Deployments]:
    """Where each model can be called for this request."""
    why_not = dishonours(profile.body, strict=snapshot.router.strict_parameters)
    return snapshot.all_deployments(profile.options.call_format or snapshot.router.call_format, why_not)


def _cached_tokens(
    deployments: Mapping[str, Deployments], warm: Warm, tokens: Mapping[str, int], ours: int
) -> dict[str, int]:
    """The tokens of the prompt in the cache of each model's warmest usable deployment, as the model counts them; the
    warm ones only. `ours`: the prompt's by our own count, in which `warm` is."""
    found = {
        model: max((warm.get((model, each), 0) for each in known.usable), default=0)
        for model, known in deployments.items()
    }
    return {model: round(count * tokens[model] / max(ours, 1)) for model, count in found.items() if count}


def _assessor(
    snapshot: RouterSnapshot,
    profile: RequestProfile,
    predictions: Mapping[str, Prediction],
    deployments: Mapping[str, Deployments],
    tokens: Mapping[str, int],
) -> Callable[[str, Blocked], _Assessed]:
    # What is the same for every candidate of a request is worked out once.
    call_format = profile.options.call_format or snapshot.router.call_format
    constraints = snapshot.router.constraints
    if profile.options.constraints is not None:
        constraints = constraints.narrowed(profile.options.constraints)
    constrained = constraints != _NO_CONSTRAINTS

    def assess(name: str, blocked: Blocked) -> _Assessed:
        spec = snapshot.models.get(name)
        if spec is None:
            unknown = snapshot.unavailable.get(name, "is not in the catalogue")
            return _Assessed(name, None, None, unknown, "unavailable")
        predicted = predictions[name]
        by: Exclusion = "unavailable"
        reason = snapshot.why_unavailable(name, call_format)
        if not reason:
            by, reason = "request", cannot_serve(spec, profile, tokens[name]) or deployments[name].why_none
        if not reason and constrained:
            by, reason = "constraint", breaks_constraint(spec, predicted, constraints)
        if not reason:
            by, reason = "blocked", blocked(name, deployments[name].usable)
        return _Assessed(name, spec, predicted, reason or None, by if reason else None, tokens[name])

    return assess


def _best_blocked(
    assessed: Sequence[_Assessed], shares: Sequence[float], profile: RequestProfile, tokens: Mapping[str, int]
) -> tuple[list[Candidate], str]:
    """The best of those that are only blocked. Raises NoCandidate where there is none."""
    freed = [a._replace(excluded_because=None) if a.excluded_by == "blocked" else a for a in assessed]
    ranked = _ranked(_score(freed, shares))
    if not ranked:
        raise _no_candidate(assessed, profile, tokens)
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
    quality = [min(max(p.quality if p.believed is None else p.believed, 0.0), 1.0) for p in predicted]
    return list(zip(cost, latency, quality, carbon, strict=True))


def _candidate(
    assessed: _Assessed, scores: tuple[float, float, float, float] | None, shares: Sequence[float]
) -> Candidate:
    p = assessed.predicted
    raw = (p.cost_usd, p.latency_ms, p.quality, p.carbon_g) if p else _UNKNOWN
    sds = (p.cost_sd_usd, p.latency_sd_ms, p.quality_sd, p.carbon_sd_g) if p else _UNKNOWN
    cost, latency, quality, carbon = map(Component, raw, _UNITS, scores or _UNSCORED, shares, sds)
    return Candidate(
        model=assessed.model,
        provider=assessed.spec.provider if assessed.spec else "",
        cost=cost,
        latency=latency,
        quality=quality,
        carbon=carbon,
        total=weighted_total(scores, shares) if scores else None,
        excluded_because=assessed.excluded_because,
        evidence=p.evidence if p else 0,
        excluded_by=assessed.excluded_by if assessed.excluded_because else None,
        prompt_tokens=assessed.prompt_tokens,
        learnt=p.learnt if p else None,
    )


def _ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted((c for c in candidates if c.total is not None), key=_rank)


def _rank(candidate: Candidate) -> tuple[float, float, str]:
    cost = candidate.cost.raw
    # Rounded, so that two sums that differ in their last bit count as the tie they are.
    return (-round(candidate.total or 0.0, 12), float("inf") if cost is None else cost, candidate.model)


def _chances(ranked: Sequence[Candidate], exploration: float) -> dict[str, float]:
    """The probability of each under the whole policy: the best, or in the `exploration` share Thompson's draw."""
    if not ranked:
        return {}
    chances = {ranked[0].model: 0.0}
    if exploration > 0.0:
        # In order of rank, so that the order in which a router names its models changes nothing.
        parts = [(c.cost, c.latency, c.quality, c.carbon) for c in ranked]
        mean = np.array([[math.nan if p.raw is None else p.raw for p in part] for part in parts])
        mean[:, 2] = [c.quality.score for c in ranked]  # as they are compared
        sd = np.array([[p.sd or 0.0 for p in part] for part in parts])
        weights, evidence = np.array([p.weight for p in parts[0]]), np.array([float(c.evidence) for c in ranked])
        shares = winning_shares(mean, sd, weights, evidence)
        chances = {c.model: exploration * share for c, share in zip(ranked, shares.tolist(), strict=True)}
    chances[ranked[0].model] += 1.0 - exploration
    return chances


def _choose(
    ranked: Sequence[Candidate], chances: Mapping[str, float], exploration: float, draw: random.Random | None
) -> tuple[str | None, bool]:
    """Who serves, and whether that was explored."""
    if not ranked:
        return None, False
    explored = draw is not None and exploration > 0.0 and draw.random() < exploration
    chosen = ranked[0].model
    if draw is not None and explored:
        names, greedy = [c.model for c in ranked], 1.0 - exploration
        shares = [chances[name] - (greedy if name == chosen else 0.0) for name in names]
        chosen = draw.choices(names, [max(share, 0.0) for share in shares])[0]
    return chosen, explored


def _explained(neighbours: Neighbours) -> tuple[NeighbourUse, ...]:
    similarity, quality = (
        [round(value, 4) for value in column[:EXPLAINED_NEIGHBOURS].tolist()]
        for column in (neighbours.similarity, neighbours.quality)
    )
    models = [neighbours.models[model] for model in neighbours.model[:EXPLAINED_NEIGHBOURS].tolist()]
    listed = zip(neighbours.request_ids, models, similarity, quality, strict=False)
    return tuple(NeighbourUse(who, model, near, None if q != q else q) for who, model, near, q in listed)
