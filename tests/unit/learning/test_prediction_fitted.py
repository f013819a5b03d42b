"""Expectations with a fitted predictor and with the router's totals: each kind of evidence by its weight."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpilot.learning.estimation import FittedPredictor, RequestFacts, predict_all
from modelpilot.learning.estimation.combine import PSEUDO_COUNT_LEVEL
from modelpilot.requests.records import ModelTotals, Neighbours
from tests.support.refit import artifact, training_rows, vector
from tests.support.routing_samples import NOW, neighbours, spec

MODELS = [spec("sim/a", quality_score=0.5), spec("sim/b", quality_score=0.5), spec("sim/new", quality_score=0.9)]
NONE = Neighbours.empty()


@cache
def predictor() -> FittedPredictor:
    """sim/a is right on one half of the sphere, sim/b on the other."""
    made = artifact().artifact
    assert made is not None
    return FittedPredictor.from_bytes(made)


def facts(first: float = 0.8, **changes: object) -> RequestFacts:
    """A request somewhere on the sphere."""
    return replace(RequestFacts(100, vector=vector(first), now=NOW), **changes)  # type: ignore[arg-type]


def test_the_fit_decides_where_it_knows_the_models() -> None:
    """Models it has never seen keep their catalogue prior, moved by what the others have over theirs here."""
    for first, better in ((0.8, 0), (-0.8, 1)):
        expected = predict_all(MODELS, facts(first), NONE, predictor())
        assert expected[better].quality > expected[1 - better].quality + 0.2
        assert expected[2].quality == pytest.approx(0.9)


def test_without_a_vector_the_means_remain() -> None:
    """An embedder that is away costs the prompt's particulars, not what the router knows in general."""
    expected = predict_all(MODELS, facts(vector=None), NONE, predictor())
    assert [each.quality for each in expected[:2]] == pytest.approx([0.5, 0.5], abs=0.06)
    assert expected[0].latency_ms == pytest.approx(500.0, rel=0.1)


def test_a_vector_of_another_embedder_is_not_used() -> None:
    """Garbage in another dimension falls back to the means as well."""
    strange = np.ones(7, np.float32)
    first = predict_all(MODELS, facts(vector=strange), NONE, predictor())
    assert first == predict_all(MODELS, facts(vector=None), NONE, predictor())


def test_neighbours_that_the_fit_has_seen_hardly_count_again() -> None:
    """Twice the same evidence is not more evidence; what came since counts in full."""
    rows = [{"model": "sim/a", "similarity": 0.9, "quality": 0.0}] * 30
    before = predict_all(MODELS, facts(), NONE, predictor())[0].quality
    learnt = predict_all(MODELS, facts(), neighbours(rows), replace(predictor(), fitted_at=NOW + 1.0))[0].quality
    fresh = predict_all(MODELS, facts(), neighbours(rows), replace(predictor(), fitted_at=NOW - 1.0))[0].quality
    assert before - learnt < 0.3 * (before - fresh)
    assert fresh < 0.5 * before


def test_more_of_the_same_evidence_never_moves_it_back() -> None:
    """Shrinkage is monotone: every further bad answer lowers the expectation, and widens no deviation."""
    found = [
        predict_all(MODELS, facts(), neighbours([{"model": "sim/a", "quality": 0.0}] * count))[0]
        for count in (0, 1, 2, 5, 20, 100)
    ]
    qualities, deviations = [each.quality for each in found], [each.quality_sd for each in found]
    assert qualities == sorted(qualities, reverse=True)
    assert deviations == sorted(deviations, reverse=True)


def test_the_same_outcomes_do_not_count_twice() -> None:
    """In a young router all outcomes are neighbours: what they say of the model is in its totals already, and overrules
    the catalogue no further."""
    unlucky = neighbours([{"model": "sim/a", "quality": 0.25}] * 4)
    known = replace(NONE, totals={"sim/a": ModelTotals(4, 4, 0.25)})
    by_totals = predict_all(MODELS, facts(), known)
    by_both = predict_all(MODELS, facts(), replace(unlucky, totals=known.totals))
    assert [each.quality for each in by_both] == pytest.approx([each.quality for each in by_totals])


def test_prices_meet_the_tokens_that_each_model_counts() -> None:
    """At the same price per token, the model that counts more of them in a prompt is the dearer one."""
    wordy = replace(predictor(), input_factor=np.array([0.5, 2.0]))
    first, second, new = predict_all(MODELS, facts(), NONE, wordy)
    usual = predict_all(MODELS, facts(), NONE, predictor())
    costs = [each.cost_usd or 0.0 for each in (first, second, new)]
    assert costs[0] < (usual[0].cost_usd or 0.0)
    assert costs[1] > (usual[1].cost_usd or 0.0)
    assert costs[2] == usual[2].cost_usd


def test_old_neighbours_say_less() -> None:
    """Half as much after the half-life."""
    rows = neighbours([{"model": "sim/a", "quality": 0.0}] * 10)
    old = replace(rows, timestamp=rows.timestamp - 365 * 86_400.0)
    recent_first, old_first = (predict_all(MODELS, facts(), each)[0].quality for each in (rows, old))
    assert recent_first < old_first < 0.5


def test_totals_stand_in_before_the_first_fit() -> None:
    """What the router has seen of each model counts where nothing is similar; half of it tells the two apart, since
    each had half of the prompts."""
    totals = {"sim/a": ModelTotals(40, 40, 0.9), "sim/b": ModelTotals(40, 40, 0.5)}
    first, second, new = predict_all(MODELS, facts(), replace(NONE, totals=totals))
    trust = 40 / (40 + PSEUDO_COUNT_LEVEL)
    level = 0.5 + trust * (0.9 - 0.5) / (2 * trust + 0.02)
    assert first.quality == pytest.approx((20 * 0.9 + PSEUDO_COUNT_LEVEL * level) / (20 + PSEUDO_COUNT_LEVEL))
    assert 0.5 < second.quality < level < first.quality
    assert new.quality == 1.0


def test_a_model_that_is_asked_alone_is_not_told_from_the_others() -> None:
    """Its outcomes say as much of the prompts and the graders as of itself: the catalogue's differences stay."""
    totals = {"sim/a": ModelTotals(40, 40, 0.6), "sim/b": ModelTotals(5, 0, math.nan)}
    first, second, new = predict_all(MODELS, facts(), replace(NONE, totals=totals))
    assert first.quality == pytest.approx(0.6, abs=0.01)
    assert second.quality == first.quality
    assert new.quality == pytest.approx(first.quality + 0.4)


def test_a_model_that_the_catalogue_does_not_know_is_soon_known() -> None:
    """A neutral prior is no knowledge: a few outcomes move it further than they move a listed quality."""
    specs = [spec("sim/a", quality_score=0.5), spec("sim/b", quality_score=None)]
    totals = {name: ModelTotals(10, 10, mean) for name, mean in (("sim/a", 0.3), ("sim/b", 0.7))}
    listed, unknown = (each.quality for each in predict_all(specs, facts(), replace(NONE, totals=totals)))
    assert 0.5 - listed < 0.1 * 0.5 < unknown - 0.5


def test_a_limit_on_the_answer_saves_time_where_times_are_known() -> None:
    """Time to first token stays, the rest shrinks with the answer; a catalogue's average is left alone."""
    whole, cut = (predict_all(MODELS, facts(max_output_tokens=limit), NONE, predictor()) for limit in (None, 10))
    assert 100.0 <= cut[0].latency_ms < 0.5 * whole[0].latency_ms
    assert cut[2].latency_ms == whole[2].latency_ms


def test_a_price_that_is_unknown_stays_unknown_for_a_router() -> None:
    """Only a recorded benchmark may read costs from history."""
    bare = [spec("sim/a", cost_per_input_token=None, cost_per_output_token=None)]
    assert predict_all(bare, facts(), NONE, predictor())[0].cost_usd is None
    recorded = predict_all(bare, facts(costs_from_history=True), NONE, predictor())[0]
    assert recorded.cost_usd == pytest.approx(0.001, rel=0.05)


def test_cached_input_is_priced_as_cached() -> None:
    """Tokens that the provider has cached cost their own price."""
    model = [spec("sim/a", cost_per_cached_input_token=0.0)]
    plain, cached = (predict_all(model, facts(cached_tokens=count), NONE)[0].cost_usd for count in (0, 100))
    assert plain is not None
    assert cached == pytest.approx(plain - 100e-6)


def test_no_models_no_predictions() -> None:
    """An empty pool is not an error here."""
    assert predict_all([], facts(), NONE, predictor()) == []


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["sim/a", "sim/b", "sim/new", "gone"]),
            "similarity": st.floats(-1, 1, width=32),
            "quality": st.just(math.nan) | st.floats(0, 1, width=32),
            "latency": st.just(math.nan) | st.floats(0, 1e6, width=32),
            "tokens": st.just(math.nan) | st.floats(0, 1e6, width=32),
            "count": st.floats(1, 1e6, width=32),
        }
    ),
    max_size=20,
)
VECTORS = st.none() | st.lists(st.floats(-1e3, 1e3, width=32), min_size=16, max_size=16).map(
    lambda numbers: np.array(numbers, np.float32)
)


@settings(deadline=None)
@given(ROWS, VECTORS, st.booleans(), st.none() | st.integers(1, 10**6))
def test_nothing_is_ever_nan(
    rows: list[dict[str, float]], where: np.ndarray | None, with_fit: bool, limit: int | None
) -> None:
    """Whatever the vector and the history, every number is finite and in its range, deviations included."""
    asked = facts(vector=where, max_output_tokens=limit)
    for each in predict_all(MODELS, asked, neighbours(rows), predictor() if with_fit else None):
        numbers = (each.cost_usd, each.latency_ms, each.quality, each.carbon_g, each.output_tokens)
        spreads = (each.cost_sd_usd, each.latency_sd_ms, each.quality_sd, each.carbon_sd_g)
        assert all(number is not None and math.isfinite(number) and number >= 0.0 for number in numbers + spreads)
        assert each.quality <= 1.0


@settings(deadline=None)
@given(ROWS, st.permutations(range(len(MODELS))))
def test_the_order_of_the_models_changes_nothing(rows: list[dict[str, float]], order: list[int]) -> None:
    """Each model's expectation depends on its own evidence, not on its place."""
    history = neighbours(rows)
    plain = predict_all(MODELS, facts(), history, predictor())
    moved = predict_all([MODELS[place] for place in order], facts(), history, predictor())
    assert [plain[place] for place in order] == moved


def test_a_fit_that_meets_many_lists_of_models_confuses_none() -> None:
    """What it keeps of each list is that of this list, also where there have been more than it keeps."""
    pools = [[MODELS[place] for place in range(len(MODELS)) if subset >> place & 1] for subset in range(1, 8)]
    pools += [pool[::-1] for pool in pools]
    fresh = [predict_all(pool, facts(), NONE, replace(predictor())) for pool in pools]
    assert [predict_all(pool, facts(), NONE, predictor()) for pool in pools] == fresh


def test_the_fit_of_one_router_is_what_its_rows_say() -> None:
    """The samples of these tests are learnable, or the tests above would prove nothing."""
    assert training_rows().models == predictor().models


def test_a_hard_router_makes_untried_models_no_better_than_known_ones() -> None:
    """Grades below the catalogue's level say more of the prompts than of the models that met them."""
    totals = {"sim/a": ModelTotals(200, 200, 0.3)}
    specs = [spec("sim/a", quality_score=0.9), spec("sim/b", quality_score=0.8)]
    known, untried = predict_all(specs, facts(), replace(NONE, totals=totals))
    assert known.quality == pytest.approx(0.3, abs=0.05)
    assert untried.quality < known.quality
