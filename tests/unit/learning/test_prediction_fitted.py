"""Expectations with a fit that was admitted: it speaks for the models that it knows, by its outcomes."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from modelpilot.learning.estimation import FittedPredictor, RequestFacts, predict_all
from tests.support.refit import artifact, training_rows, vector
from tests.support.routing_samples import spec

MODELS = [spec("sim/a", quality_score=0.5), spec("sim/b", quality_score=0.5), spec("sim/new", quality_score=0.9)]


@cache
def predictor() -> FittedPredictor:
    """sim/a is right on one half of the sphere, sim/b on the other."""
    made = artifact().artifact
    assert made is not None
    return FittedPredictor.from_bytes(made)


def facts(first: float = 0.8, **changes: object) -> RequestFacts:
    """A request somewhere on the sphere."""
    return replace(RequestFacts(100, vector=vector(first)), **changes)  # type: ignore[arg-type]


def test_the_fit_decides_where_it_knows_the_models() -> None:
    """Models it has never seen keep what is known of them otherwise."""
    for first, better in ((0.8, 0), (-0.8, 1)):
        expected = predict_all(MODELS, facts(first), None, predictor())
        assert expected[better].quality > expected[1 - better].quality + 0.2
        assert expected[2].quality == pytest.approx(0.9)
        learnt = expected[better].learnt
        assert learnt is not None
        assert learnt.fitted is not None
        assert (learnt.catalogue, expected[2].learnt and expected[2].learnt.fitted) == (0.5, None)


def test_a_model_that_the_fit_has_hardly_seen_is_left_to_what_was_learnt_online() -> None:
    """Three outcomes against sixty imaginary ones move nothing much."""
    few = replace(predictor(), rows=np.full((4, 2), 3.0))
    expected = predict_all(MODELS, facts(), None, few)
    assert [each.quality for each in expected[:2]] == pytest.approx([0.5, 0.5], abs=0.03)


def test_without_a_vector_the_means_remain() -> None:
    """An embedder that is away costs the prompt's particulars, not what the router knows in general."""
    expected = predict_all(MODELS, facts(vector=None), None, predictor())
    assert [each.quality for each in expected[:2]] == pytest.approx([0.5, 0.5], abs=0.06)
    assert expected[0].latency_ms == pytest.approx(500.0, rel=0.1)


def test_a_vector_of_another_embedder_is_not_used() -> None:
    """Garbage in another dimension falls back to the means as well."""
    strange = np.ones(7, np.float32)
    first = predict_all(MODELS, facts(vector=strange), None, predictor())
    assert first == predict_all(MODELS, facts(vector=None), None, predictor())


def test_a_limit_on_the_answer_saves_time_where_times_are_known() -> None:
    """Time to first token stays, the rest shrinks with the answer; a catalogue's average is left alone."""
    whole, cut = (predict_all(MODELS, facts(max_output_tokens=limit), None, predictor()) for limit in (None, 10))
    assert 100.0 <= cut[0].latency_ms < 0.5 * whole[0].latency_ms
    assert cut[2].latency_ms == whole[2].latency_ms


def test_a_price_that_is_unknown_stays_unknown_for_a_router() -> None:
    """Only a recorded benchmark may read costs from history."""
    bare = [spec("sim/a", cost_per_input_token=None, cost_per_output_token=None)]
    assert predict_all(bare, facts(), None, predictor())[0].cost_usd is None
    recorded = predict_all(bare, facts(costs_from_history=True), None, predictor())[0]
    assert recorded.cost_usd == pytest.approx(0.001, rel=0.05)


def test_a_fit_that_meets_many_lists_of_models_confuses_none() -> None:
    """What it keeps of each list is that of this list, also where there have been more than it keeps."""
    pools = [[MODELS[place] for place in range(len(MODELS)) if subset >> place & 1] for subset in range(1, 8)]
    pools += [pool[::-1] for pool in pools]
    fresh = [predict_all(pool, facts(), None, replace(predictor())) for pool in pools]
    assert [predict_all(pool, facts(), None, predictor()) for pool in pools] == fresh


def test_the_fit_of_one_router_is_what_its_rows_say() -> None:
    """The samples of these tests are learnable, or the tests above would prove nothing."""
    assert training_rows().models == predictor().models
