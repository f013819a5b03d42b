"""Choosing a model for one request."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.errors import ContextLengthExceeded, NoCandidate
from modelpilot.learning.estimation import Learner, Outcome, Outlooks
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import Neighbours, RouterSnapshot
from modelpilot.routing.decision import Candidate, Decision
from modelpilot.routing.router import Router
from modelpilot.routing.selection import decide
from tests.support.routing_samples import NOW, neighbours, profile, router, snapshot, spec

NONE = Neighbours.empty()
GPT4 = spec("gpt-4", cost_per_input_token=3e-5, cost_per_output_token=6e-5, avg_latency_ms=2_500.0, quality_score=0.95)
GPT35 = spec(
    "gpt-3.5-turbo", cost_per_input_token=5e-7, cost_per_output_token=1.5e-6, avg_latency_ms=800.0, quality_score=0.7
)


def choose(shot: RouterSnapshot, seed: int = 0, history: Neighbours = NONE, **fields: Any) -> Decision:
    """The decision for a simple question."""
    return decide(shot, profile(**fields), history, random.Random(seed))


def over(*specs: ModelSpec, **changes: Any) -> RouterSnapshot:
    """A router over exactly these models."""
    return snapshot(router(*(model.id for model in specs), **changes), *specs)


def test_the_reference_case() -> None:
    """Mostly cost (.8, quality .2): "Simple question" goes to gpt-3.5-turbo. Quality alone: to gpt-4."""
    assert choose(over(GPT4, GPT35, objective={"cost_weight": 0.8, "quality_weight": 0.2})).selected == "gpt-3.5-turbo"
    assert choose(over(GPT4, GPT35, objective={"quality_weight": 1.0})).selected == "gpt-4"


def test_a_decision_explains_itself() -> None:
    """Totals are the sums of score times weight, raw values come with their units, no text is in it."""
    decided = choose(over(GPT4, GPT35, objective={"cost_weight": 4, "quality_weight": 1}))
    for candidate in decided.candidates:
        parts = (candidate.cost, candidate.latency, candidate.quality, candidate.carbon)
        assert candidate.total == pytest.approx(sum(part.score * part.weight for part in parts))
        assert [part.unit for part in parts] == ["USD", "ms", "share", "gCO2e"]
        assert all(part.raw is not None for part in parts)
    wire = decided.to_wire()
    assert (wire["selectedModel"], wire["configVersion"], wire["propensity"]) == ("gpt-3.5-turbo", 3, 1.0)
    assert "Simple question" not in str(wire)


def test_history_overrules_the_catalogue() -> None:
    """A model with a good name that keeps failing on such prompts loses to one that does not."""
    learner = Learner(None, NOW)
    for model, quality in ((GPT4.id, 0.0), (GPT35.id, 1.0)):
        for _ in range(100):
            learner.learn(None, [Outcome(model, 1.0, quality, 1.0, 100.0, 20.0, 500.0, 100.0, NOW)])
    asked, said = over(GPT4, GPT35, objective={"quality_weight": 1.0}), Outlooks(learner, NOW)
    decided = decide(asked, profile(), Neighbours.empty(), None, learnt=said)
    assert decided.selected == "gpt-3.5-turbo"
    assert [candidate.evidence for candidate in decided.candidates] == [100, 100]
    shown = decided.to_wire()["candidates"][0]["learnt"]
    assert shown["catalogue"] == GPT4.quality_score
    assert shown["level"] < -0.1
    assert (shown["prompt"], shown["grades"], shown["fitted"]) == (0.0, 100.0, None)
    assert 0.0 < shown["sd"] < 0.1


def test_similar_prompts_are_shown() -> None:
    """The ten nearest explain what kind of prompt it is."""
    assert len(choose(over(GPT4, GPT35), history=neighbours([{"model": "gpt-4"}] * 40)).neighbours) == 10


def test_ties_break_by_cost_then_name() -> None:
    """Equal totals: the cheaper model; equal costs as well: the first by name; a known price before an unknown one."""
    same = {"objective": {"quality_weight": 1.0}}
    cheap, dear = spec("z", cost_per_input_token=1e-7), spec("a")
    assert choose(over(dear, cheap, **same)).selected == "z"
    assert choose(over(spec("b"), spec("a"), **same)).selected == "a"
    assert choose(over(spec("a", cost_per_input_token=None), spec("b"), **same)).selected == "b"


def test_an_unknown_price_scores_zero_and_says_so() -> None:
    """Never as cheap as free, and excluded under a cost limit."""
    unknown = spec("unknown", cost_per_output_token=None, quality_score=1.0)
    decided = choose(over(unknown, GPT4, objective={"cost_weight": 1.0}))
    assert decided.selected == "gpt-4"
    assert (decided.candidates[0].cost.raw, decided.candidates[0].cost.score) == (None, 0.0)
    limited = over(unknown, GPT4, constraints={"max_cost_usd": 100.0})
    assert "cost is unknown" in (choose(limited).candidates[0].excluded_because or "")


def test_exclusions_are_stated_and_do_not_count() -> None:
    """Unknown, unavailable and unfit models are listed with their reasons, and the rest is scored without them."""
    free_but_blind = spec("free", cost_per_input_token=0.0, cost_per_output_token=0.0, limits={"context_window": 5})
    names = ("nowhere", "keyless", "free", "gpt-4")
    shot = snapshot(
        router(*names), free_but_blind, GPT4, spec("keyless"), unavailable={"keyless": "provider has no key"}
    )
    decided = choose(shot, max_tokens=50)
    reasons = {candidate.model: candidate.excluded_because for candidate in decided.candidates}
    assert reasons["nowhere"] == "is not in the catalogue"
    assert reasons["keyless"] == "provider has no key"
    assert "window is 5" in (reasons["free"] or "")
    assert reasons["gpt-4"] is None
    assert decided.selected == "gpt-4"
    assert all((c.total is None) == (c.excluded_because is not None) for c in decided.candidates)
    assert next(c for c in decided.candidates if c.model == "gpt-4").cost.score == 1.0


def test_nobody_left_says_why_for_each() -> None:
    """The error names every model and its reason."""
    with pytest.raises(NoCandidate) as caught:
        choose(over(GPT4, GPT35, constraints={"min_quality": 0.99}))
    assert [entry["model"] for entry in caught.value.details["candidates"]] == ["gpt-4", "gpt-3.5-turbo"]
    assert all("under the minimum" in entry["excludedBecause"] for entry in caught.value.details["candidates"])
    assert "gpt-4: " in caught.value.message


@pytest.mark.parametrize("others", [[], ["keyless"], ["unable"], ["nowhere"]])
def test_too_long_a_prompt_for_all_says_so(others: list[str]) -> None:
    """In the words and with the code that clients know from the providers, where a shorter prompt would be served."""
    prompt = profile().prompt_tokens
    fits_less = spec("short", limits={"context_window": prompt - 1})
    fits_more = spec("longer", limits={"context_window": prompt + 1})
    unable = spec("unable", capabilities=["embeddings"], limits={"context_window": 9})
    known = (fits_less, fits_more, unable, spec("keyless"))
    shot = snapshot(router("short", "longer", *others), *known, unavailable={"keyless": "provider has no key"})
    with pytest.raises(ContextLengthExceeded) as caught:
        choose(shot, max_tokens=100)
    assert caught.value.message.startswith(f"prompt is too long: {prompt + 100} tokens > {prompt + 1} maximum")
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert len(caught.value.details["candidates"]) == 2 + len(others)


def test_who_could_not_serve_a_shorter_prompt_either_is_not_called_too_short() -> None:
    """A model that lacks something else as well would not be helped."""
    with pytest.raises(NoCandidate) as caught:
        choose(over(spec("unable", capabilities=["embeddings"], limits={"context_window": 9})), max_tokens=100)
    assert caught.value.code == "no_candidate"


def test_whom_a_refusal_goes_on_to() -> None:
    """The fallbacks that can serve, then the next candidates in order of rank, three at most; never the chosen one."""
    ranked = [spec(f"m{number}", quality_score=0.9 - 0.1 * number) for number in range(6)]
    unfit = spec("unfit", quality_score=1.0, capabilities=["embeddings"])
    strategy = {"fallback_models": ["unfit", "m3", "m0"]}
    names = ("unfit", *(each.id for each in reversed(ranked)))
    rules = router(*names, objective={"quality_weight": 1.0}, fallback_strategy=strategy)
    shot = snapshot(rules, unfit, *ranked)
    decided = choose(shot, max_tokens=9)
    assert (decided.selected, decided.next_models) == ("m0", ("m3", "m1", "m2", "m4"))
    assert choose(preferring(GPT4, GPT35)).next_models == ()


def test_a_request_narrows_the_router() -> None:
    """Objective and constraints of the body apply to this request; a wider limit than the router's does not."""
    shot = over(GPT4, GPT35, objective={"cost_weight": 1.0}, constraints={"max_latency_ms": 3_000.0})
    assert choose(shot, modelpilot={"objective": {"qualityWeight": 1.0}}).selected == "gpt-4"
    assert choose(shot, modelpilot={"constraints": {"minQuality": 0.9}}).selected == "gpt-4"
    tight = over(GPT4, GPT35, objective={"quality_weight": 1.0}, constraints={"max_latency_ms": 1_000.0})
    assert choose(tight, modelpilot={"constraints": {"maxLatencyMs": 9_000.0}}).selected == "gpt-3.5-turbo"


def preferring(*specs: ModelSpec, fallbacks: list[str] | None = None, **changes: Any) -> RouterSnapshot:
    """A router in preferredModel mode for gpt-4."""
    rules = {"mode": "preferredModel", "preferred_model": "gpt-4", "fallback_strategy": {"fallback_models": fallbacks}}
    return snapshot(router(**{**rules, **changes, "fallback_strategy": {"fallback_models": fallbacks or []}}), *specs)


def test_preferred_mode_takes_the_preferred_model() -> None:
    """Whatever the objective says and however much exploration is configured."""
    shot = preferring(GPT4, GPT35, objective={"cost_weight": 1.0}, exploration=1.0)
    assert {choose(shot, seed).selected for seed in range(20)} == {"gpt-4"}
    decided = choose(shot)
    assert (decided.propensity, decided.explored, decided.mode) == (1.0, False, "preferredModel")


def test_preferred_mode_falls_back_when_the_model_cannot_serve() -> None:
    """The first fallback that can; without one, the error says why."""
    shot = preferring(GPT35, fallbacks=["nowhere", "gpt-3.5-turbo"])
    assert choose(shot).selected == "gpt-3.5-turbo"
    with pytest.raises(NoCandidate, match="gpt-4: is not in the catalogue"):
        choose(preferring(GPT35))


def test_fallbacks_that_cannot_serve_are_left_out() -> None:
    """Order is kept, the unfit are gone."""
    small = spec("small", limits={"context_window": 1})
    shot = preferring(GPT4, GPT35, small, fallbacks=["small", "gpt-3.5-turbo", "nowhere", "gpt-4"])
    assert choose(shot, max_tokens=9).fallbacks == ("gpt-3.5-turbo", "gpt-4")


def test_excluded_models_are_never_explored() -> None:
    """Exploration is among those that can serve."""
    shot = snapshot(router("gpt-4", "nowhere", exploration=1.0), GPT4)
    assert {choose(shot, seed).selected for seed in range(50)} == {"gpt-4"}


PRICES = st.none() | st.just(0.0) | st.floats(1e-7, 1e-3)
MODELS = st.lists(
    st.builds(
        spec,
        name=st.uuids().map(str),
        cost_per_input_token=PRICES,
        cost_per_output_token=PRICES,
        avg_latency_ms=st.none() | st.floats(10, 60_000),
        quality_score=st.none() | st.floats(0, 1),
        carbon_g_per_1k_tokens=st.none() | st.floats(0, 10),
    ),
    min_size=1,
    max_size=8,
)
WEIGHTS = st.fixed_dictionaries(
    {name: st.floats(0, 1).map(lambda w: round(w, 3)) for name in ("cost_weight", "latency_weight", "quality_weight")}
)


def rules(models: list[ModelSpec], weights: dict[str, float]) -> Router:
    """A router over generated models."""
    return router(*(model.id for model in models), objective=weights)


@given(MODELS, WEIGHTS)
def test_decisions_are_finite_and_ranked(models: list[ModelSpec], weights: dict[str, float]) -> None:
    """No NaN anywhere, scores and totals in [0, 1], and the highest total is chosen."""
    decided = choose(snapshot(rules(models, weights), *models))
    totals = [candidate.total for candidate in decided.candidates if candidate.total is not None]
    for candidate in decided.candidates:
        for part in (candidate.cost, candidate.latency, candidate.quality, candidate.carbon):
            assert 0.0 <= part.score <= 1.0
            assert part.raw is None or math.isfinite(part.raw)
    assert all(0.0 <= total <= 1.0 + 1e-9 for total in totals)
    chosen = next(candidate for candidate in decided.candidates if candidate.model == decided.selected)
    assert chosen.total == pytest.approx(max(totals), abs=1e-11)


@given(MODELS, WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_changes_nothing(
    models: list[ModelSpec], weights: dict[str, float], shuffler: random.Random
) -> None:
    """The same models in another order: the same choice, the same totals."""
    shuffled = [*models]
    shuffler.shuffle(shuffled)
    first = choose(snapshot(rules(models, weights), *models))
    second = choose(snapshot(rules(shuffled, weights), *shuffled))
    assert first.selected == second.selected
    assert {c.model: c.total for c in first.candidates} == {c.model: c.total for c in second.candidates}


@given(MODELS, WEIGHTS, st.sampled_from([0.25, 0.5, 2.0, 1024.0]))
def test_scaling_all_weights_changes_no_decision(
    models: list[ModelSpec], weights: dict[str, float], factor: float
) -> None:
    """Only the ratio of the weights matters."""
    scaled = {name: weight * factor for name, weight in weights.items()}
    first, second = (choose(snapshot(rules(models, chosen), *models)) for chosen in (weights, scaled))
    assert first.selected == second.selected


def places(decided: Decision) -> list[str]:
    """Model names from best to worst."""

    def rank(candidate: Candidate) -> tuple[float, float, str]:
        cost = math.inf if candidate.cost.raw is None else candidate.cost.raw
        return -round(candidate.total or 0.0, 9), cost, candidate.model

    return [candidate.model for candidate in sorted(decided.candidates, key=rank)]


@given(MODELS, WEIGHTS, st.data())
def test_a_dearer_model_never_ranks_higher(
    models: list[ModelSpec], weights: dict[str, float], data: st.DataObject
) -> None:
    """Raising one model's prices, or losing them, never improves its rank where cost counts."""
    index = data.draw(st.integers(0, len(models) - 1))
    before = models[index]
    more = data.draw(PRICES)
    changes = {
        name: None if more is None or (price := getattr(before, name)) is None else price + more
        for name in ("cost_per_input_token", "cost_per_output_token")
    }
    dearer = [*models]
    dearer[index] = before.model_copy(update=changes)
    costly = {**weights, "cost_weight": max(weights["cost_weight"], 0.01)}
    first, second = (choose(snapshot(rules(chosen, costly), *chosen)) for chosen in (models, dearer))
    assert places(second).index(before.id) >= places(first).index(before.id)


@given(MODELS, WEIGHTS, st.data())
def test_a_dominated_model_never_wins(models: list[ModelSpec], weights: dict[str, float], data: st.DataObject) -> None:
    """A model that is dearer, slower, worse and dirtier than another one is never chosen."""
    better = data.draw(st.sampled_from(models)).model_copy(
        update={"cost_per_input_token": 1e-6, "cost_per_output_token": 1e-6, "carbon_g_per_1k_tokens": 1.0}
    )
    worse = better.model_copy(
        update={
            "id": "a-worse-one",
            "cost_per_input_token": 1.1e-6,
            "cost_per_output_token": 1.1e-6,
            "avg_latency_ms": (better.avg_latency_ms or 2_000.0) * 1.1,
            "quality_score": (0.5 if better.quality_score is None else better.quality_score) * 0.9,
            "carbon_g_per_1k_tokens": 1.1,
        }
    )
    pool = [model if model.id != better.id else better for model in models] + [worse]
    assert choose(snapshot(rules(pool, weights), *pool)).selected != "a-worse-one"
