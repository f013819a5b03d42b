"""Thompson sampling within the exploration share, and the propensities that it logs."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.routing.decision import Decision
from modelpilot.routing.exploration import DRAWS, UNIFORM_PART, winning_shares
from modelpilot.routing.scoring import lower_is_better, lower_is_better_draws, lower_is_better_rows
from modelpilot.routing.selection import decide
from tests.support.routing_samples import neighbours, profile, router, snapshot, spec

QUALITY_ONLY = np.array([0.0, 0.0, 1.0, 0.0])
VALUES = st.none() | st.just(0.0) | st.floats(1e-9, 1e9)


@given(st.lists(st.lists(VALUES, min_size=4, max_size=4), min_size=1, max_size=5))
def test_rows_are_scored_like_single_decisions(rows: list[list[float | None]]) -> None:
    """What replays score by the thousand is exactly what a decision scores one by one."""
    values = np.array([[math.inf if value is None else value for value in row] for row in rows])
    for found, row in zip(lower_is_better_rows(values), rows, strict=True):
        assert found.tolist() == pytest.approx(lower_is_better(row), abs=1e-12)


def test_rows_leave_out_who_is_no_candidate() -> None:
    """NaN stays NaN and moves neither the best nor the scale."""
    found = lower_is_better_rows(np.array([[1.0, np.nan, 2.0, 3.0], [np.nan, np.nan, np.nan, np.inf]]))
    assert found[0][[0, 2, 3]].tolist() == pytest.approx(lower_is_better([1.0, 2.0, 3.0]))
    assert np.isnan(found[0][1])
    assert found[1][3] == 0.0


def test_draws_are_scored_like_rows() -> None:
    """The quick way for draws, where the same candidates are known in each, gives the same scores."""
    values = np.random.default_rng(0).lognormal(size=(20, 5))
    values[:, 3] = np.inf
    assert lower_is_better_draws(values, 4) == pytest.approx(lower_is_better_rows(values))
    assert lower_is_better_draws(np.full((2, 3), np.inf), 0).tolist() == [[0.0] * 3] * 2


def means(*quality: float) -> np.ndarray:
    """Predictions that differ in quality only."""
    return np.array([[0.001, 500.0, each, 0.1] for each in quality])


def spread(*quality: float) -> np.ndarray:
    """Their standard deviations."""
    return np.array([[0.0, 0.0, each, 0.0] for each in quality])


def test_what_is_surely_best_nearly_always_wins() -> None:
    """Everybody keeps the uniform part, and no more where there is no doubt."""
    found = winning_shares(means(0.9, 0.5, 0.1), spread(0.01, 0.01, 0.01), QUALITY_ONLY, np.zeros(3))
    least = UNIFORM_PART / 3
    assert found.tolist() == pytest.approx([1.0 - 2 * least, least, least])


def test_doubt_is_what_gets_explored() -> None:
    """Of two equally good guesses behind the best, the uncertain one is tried more often."""
    found = winning_shares(means(0.6, 0.5, 0.5), spread(0.02, 0.2, 0.02), QUALITY_ONLY, np.zeros(3))
    assert found[1] > 5 * found[2] / 2
    assert found[1] == pytest.approx(0.8 * 0.31 + UNIFORM_PART / 3, abs=0.06)  # P(N(.5, .2) > N(.6, .02)) = .31


def test_uncertain_costs_stay_positive_and_unknown_ones_last() -> None:
    """However wide, a cost is never drawn below 0, and an unknown one never wins on cost."""
    mean = np.array([[1e-6, 1.0, 0.5, 1.0], [np.nan, 1.0, 0.5, 1.0], [0.0, 1.0, 0.5, 1.0]])
    sd = np.array([[1e-2, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = winning_shares(mean, sd, np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(3))
    least = UNIFORM_PART / 3
    assert found.tolist() == pytest.approx([least, least, 1.0 - 2 * least])


def test_the_spread_of_lengths_is_no_lasting_doubt() -> None:
    """Two models whose answers vary a lot in length: with a hundred outcomes each, the cheaper one is known to be."""
    mean = np.array([[0.001, 500.0, 0.5, 0.1], [0.002, 500.0, 0.5, 0.1]])
    sd = np.array([[0.001, 0.0, 0.0, 0.1], [0.002, 0.0, 0.0, 0.1]])
    cost = np.array([1.0, 0.0, 0.0, 0.0])
    early, late = (winning_shares(mean, sd, cost, np.array([evidence, evidence])) for evidence in (0.0, 100.0))
    assert early[1] > 0.25
    assert late[1] == pytest.approx(UNIFORM_PART / 2)


PREDICTED = st.tuples(
    st.floats(0, 1) | st.just(math.nan), st.floats(1, 1e5), st.floats(0, 1), st.floats(0, 10) | st.just(math.nan)
)


@given(
    st.lists(PREDICTED, min_size=1, max_size=70),
    st.floats(0, 100),
    st.lists(st.floats(0, 1), min_size=4, max_size=4).map(np.array),
)
def test_shares_are_a_distribution(predicted: list[tuple[float, ...]], wide: float, weights: np.ndarray) -> None:
    """For any predictions, unknown ones and absurd spreads included: they sum to 1, and nobody has none."""
    mean = np.array(predicted)
    found = winning_shares(mean, np.nan_to_num(mean) * wide, weights, np.linspace(0.0, 9.0, len(mean)))
    assert math.fsum(found) == pytest.approx(1.0)
    assert (found >= UNIFORM_PART / len(mean) - 1e-12).all()
    assert DRAWS % 2 == 0


# Decisions whose draws are spread evenly: their shares are nearer to the truth than those of 4,000 random draws.
EVEN = 500
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Given(random.Random):
    """Draws the numbers that it is given: whether to explore, and what."""

    numbers: Iterator[float] = iter(())

    def random(self) -> float:
        return next(self.numbers)


def given_draws(*numbers: float) -> random.Random:
    """A source of these numbers."""
    made = Given()
    made.numbers = iter(numbers)
    return made


def decided(
    exploration: float,
    seed: int = 0,
    models: tuple[str, ...] = ("a", "b", "c"),
    draw: random.Random | None = None,
    **constraints: Any,
) -> Decision:
    """A decision between three models, of which two are close and the third is poor but cheap."""
    specs = {
        "a": spec("a", quality_score=0.8, cost_per_output_token=1e-6),
        "b": spec("b", quality_score=0.75, cost_per_output_token=1e-6),
        "c": spec("c", quality_score=0.2, cost_per_output_token=1e-7),
    }
    rules = router(*models, objective={"quality_weight": 1.0}, exploration=exploration, constraints=constraints)
    return decide(snapshot(rules, *specs.values()), profile(), neighbours([]), draw or random.Random(seed))


@cache
def evenly(exploration: float) -> list[Decision]:
    """Decisions whose two draws cover all of [0, 1) x [0, 1)."""
    draws = (((number + 0.5) / EVEN, number * GOLDEN % 1.0) for number in range(EVEN))
    return [decided(exploration, draw=given_draws(*pair)) for pair in draws]


@pytest.mark.parametrize("exploration", [0.1, 0.25, 0.6, 1.0])
def test_logged_propensities_are_the_frequencies(exploration: float) -> None:
    """Each model is chosen as often as its probability says, and what is logged with a choice is that probability."""
    made = evenly(exploration)
    chances = {c.model: c.probability for c in made[0].candidates}
    assert math.fsum(chances.values()) == pytest.approx(1.0)
    assert all(one.propensity == chances[one.selected] for one in made)
    counts = Counter(one.selected for one in made)
    for model, chance in chances.items():
        assert counts[model] / EVEN == pytest.approx(chance, abs=0.005)
    assert sum(one.explored for one in made) / EVEN == pytest.approx(exploration, abs=1.0 / EVEN)


def test_inverse_propensity_weights_average_to_one() -> None:
    """Each model's decisions, weighted by 1 / propensity, stand for all requests: what off-policy estimates rest on."""
    for model in ("a", "b", "c"):
        weights = [1.0 / one.propensity if one.selected == model else 0.0 for one in evenly(0.6)]
        assert float(np.mean(weights)) == pytest.approx(1.0, abs=0.05)


def test_exploration_never_goes_beyond_constraints() -> None:
    """What a constraint excludes has probability 0 and is never drawn."""
    made = [decided(1.0, seed, min_quality=0.5) for seed in range(300)]
    assert {one.selected for one in made} == {"a", "b"}
    assert {c.model: c.probability for c in made[0].candidates}["c"] == 0.0


def test_the_order_of_the_models_changes_no_probability() -> None:
    """Draws belong to ranks, not to positions in the router's list."""
    first, second = decided(0.3, 0), decided(0.3, 0, models=("c", "b", "a"))
    assert {c.model: c.probability for c in first.candidates} == {c.model: c.probability for c in second.candidates}


def test_the_share_follows_the_objective() -> None:
    """The close second is explored more than the poor third."""
    chances = {c.model: c.probability for c in decided(0.2, 0).candidates}
    assert chances["a"] > 0.8
    assert chances["b"] > 2 * chances["c"] > 0.0
