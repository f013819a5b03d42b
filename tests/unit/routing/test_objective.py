"""Properties of decisions with all kinds of evidence: random neighbours and a fitted predictor."""

import math
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.estimation import FittedPredictor
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import Neighbours, Vector
from modelpilot.routing.decision import Candidate, Decision
from modelpilot.routing.selection import decide
from tests.support.refit import DIMENSION, artifact
from tests.support.routing_samples import neighbours, profile, router, snapshot, spec

NAMES = ("sim/a", "sim/b", "sim/c", "sim/d")  # the predictor knows the first two
PRICES = st.none() | st.just(0.0) | st.floats(1e-7, 1e-3)
SPECS = st.fixed_dictionaries(
    {
        name: st.builds(
            spec,
            name=st.just(name),
            cost_per_input_token=PRICES,
            cost_per_output_token=PRICES,
            avg_latency_ms=st.none() | st.floats(10, 60_000),
            quality_score=st.none() | st.floats(0, 1),
            carbon_g_per_1k_tokens=st.none() | st.floats(0, 10),
        )
        for name in NAMES
    }
).map(lambda specs: list(specs.values()))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from([*NAMES, "sim/gone"]),
            "similarity": st.floats(-1, 1),
            "quality": st.just(math.nan) | st.floats(0, 1),
            "cost": st.just(math.nan) | st.floats(0, 1),
            "latency": st.floats(0, 1e6),
            "tokens": st.floats(0, 1e5),
            "count": st.floats(1, 1e4),
        }
    ),
    max_size=30,
).map(neighbours)
WEIGHTS = st.fixed_dictionaries(
    {f"{name}_weight": st.floats(0, 1).map(lambda w: round(w, 3)) for name in ("cost", "latency", "quality", "carbon")}
)
VECTORS = st.none() | st.integers(0, 50).map(
    lambda seed: np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
)


@cache
def fitted() -> FittedPredictor:
    """A predictor fitted to outcomes of two of the models."""
    made = artifact().artifact
    assert made is not None
    return FittedPredictor.from_bytes(made)


@pytest.fixture(scope="module", autouse=True)
def _fitted_before() -> None:
    """The fit is made before the first example, whose deadline it would break."""
    fitted()


def choose(
    specs: list[ModelSpec], weights: dict[str, float], history: Neighbours, vector: Vector | None, **changes: Any
) -> Decision:
    """The decision over these models with all evidence; seeded, exploring where `changes` say so."""
    rules = router(*(model.id for model in specs), objective=weights, **changes)
    draw = random.Random(0)
    return decide(snapshot(rules, *specs), profile(), history, draw, fitted=fitted(), vector=vector)


def parts(candidate: Candidate) -> tuple[Any, ...]:
    """The four components."""
    return candidate.cost, candidate.latency, candidate.quality, candidate.carbon


@given(SPECS, WEIGHTS, ROWS, VECTORS, st.sampled_from([0.0, 0.3]))
def test_no_number_is_ever_nan(
    specs: list[ModelSpec], weights: dict[str, float], history: Neighbours, vector: Vector | None, exploration: float
) -> None:
    """Whatever is known, unknown or absurd: every number is finite, scores are shares, probabilities sum to 1."""
    made = choose(specs, weights, history, vector, exploration=exploration)
    for candidate in made.candidates:
        for part in parts(candidate):
            assert 0.0 <= part.score <= 1.0
            assert all(number is None or math.isfinite(number) for number in (part.raw, part.sd))
            assert part.sd is None or part.sd >= 0.0
        assert candidate.total is not None
        assert -1e-9 <= candidate.total <= 1.0 + 1e-9
    assert math.isclose(sum(candidate.probability for candidate in made.candidates), 1.0, abs_tol=1e-9)
    assert 0.0 < made.propensity <= 1.0


@given(SPECS, WEIGHTS, ROWS, VECTORS, st.permutations(range(len(NAMES))))
def test_the_order_of_the_models_changes_nothing(
    specs: list[ModelSpec],
    weights: dict[str, float],
    history: Neighbours,
    vector: Vector | None,
    order: list[int],
) -> None:
    """Choice, totals and probabilities belong to models, not to places in a list."""
    first = choose(specs, weights, history, vector, exploration=0.4)
    second = choose([specs[place] for place in order], weights, history, vector, exploration=0.4)
    assert first.selected == second.selected
    assert {c.model: (c.total, c.probability) for c in first.candidates} == {
        c.model: (c.total, c.probability) for c in second.candidates
    }


@given(SPECS, WEIGHTS, ROWS, VECTORS, st.sampled_from([0.25, 8.0, 1024.0]))
def test_only_the_ratio_of_the_weights_matters(
    specs: list[ModelSpec], weights: dict[str, float], history: Neighbours, vector: Vector | None, factor: float
) -> None:
    """All weights times the same factor: the same choice."""
    scaled = {name: weight * factor for name, weight in weights.items()}
    assert choose(specs, weights, history, vector).selected == choose(specs, scaled, history, vector).selected


@given(SPECS, WEIGHTS, ROWS, VECTORS)
def test_a_dominated_model_never_wins(
    specs: list[ModelSpec], weights: dict[str, float], history: Neighbours, vector: Vector | None
) -> None:
    """The best by total is not dearer, slower, worse and dirtier than any other at once."""
    made = choose(specs, weights, history, vector)
    winner = next(candidate for candidate in made.candidates if candidate.model == made.selected)
    assert not any(dominates(other, winner) for other in made.candidates)


def dominates(better: Candidate, worse: Candidate) -> bool:
    """Better in every component; unknown is worse than anything known."""
    lower = all(
        _known(getattr(better, part).raw) < _known(getattr(worse, part).raw) for part in ("cost", "latency", "carbon")
    )
    return lower and _known(better.quality.raw) > _known(worse.quality.raw)


def _known(raw: float | None) -> float:
    return math.inf if raw is None else raw


@given(SPECS, WEIGHTS, ROWS, VECTORS, st.integers(0, len(NAMES) - 1), st.none() | st.floats(1e-7, 1e-3))
def test_a_dearer_model_never_ranks_higher(
    specs: list[ModelSpec],
    weights: dict[str, float],
    history: Neighbours,
    vector: Vector | None,
    index: int,
    more: float | None,
) -> None:
    """Raising one model's prices, or losing them, never improves its rank where cost counts."""
    before = specs[index]
    changes = {
        name: None if more is None or (price := getattr(before, name)) is None else price + more
        for name in ("cost_per_input_token", "cost_per_output_token")
    }
    dearer = [*specs]
    dearer[index] = before.model_copy(update=changes)
    costly = {**weights, "cost_weight": max(weights["cost_weight"], 0.01)}
    first, second = (rank(choose(chosen, costly, history, vector), before.id) for chosen in (specs, dearer))
    assert second >= first


def rank(made: Decision, model: str) -> int:
    """How many models are placed before this one."""

    def place(candidate: Candidate) -> tuple[float, float, str]:
        return -round(candidate.total or 0.0, 9), _known(candidate.cost.raw), candidate.model

    return [candidate.model for candidate in sorted(made.candidates, key=place)].index(model)
