"""What a model is expected to cost, take, deliver and emit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.estimation import REPEAT_CAP, Prediction, RequestFacts, predict_all
from modelpilot.learning.estimation.combine import DEFAULT_OUTPUT_TOKENS, PSEUDO_COUNT_COMMON, PSEUDO_COUNT_QUALITY
from modelpilot.providers.catalogue import NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY, ModelSpec
from modelpilot.requests.records import Neighbours
from tests.support.routing_samples import neighbours, spec

MODEL = spec("sim/a", avg_latency_ms=2_000.0, quality_score=0.6)
NONE = Neighbours.empty()


def predict(model: ModelSpec, history: Neighbours, prompt_tokens: int, max_output_tokens: int | None) -> Prediction:
    """The prediction for one model alone."""
    return predict_all([model], RequestFacts(prompt_tokens, max_output_tokens), history)[0]


def test_priors_decide_without_history() -> None:
    """The catalogue's values, and a typical output length."""
    expected = predict(MODEL, NONE, 100, None)
    assert (expected.latency_ms, expected.evidence) == (2_000.0, 0)
    assert expected.quality == pytest.approx(0.6)
    assert expected.output_tokens == DEFAULT_OUTPUT_TOKENS
    assert expected.cost_usd == pytest.approx(100e-6 + DEFAULT_OUTPUT_TOKENS * 2e-6)
    assert expected.carbon_g == pytest.approx(0.1 * DEFAULT_OUTPUT_TOKENS / 1000)


def test_unknown_catalogue_values_are_neutral_or_unknown() -> None:
    """Quality and latency have neutral priors; price and carbon stay unknown."""
    bare = spec(avg_latency_ms=None, quality_score=None, cost_per_output_token=None, carbon_g_per_1k_tokens=None)
    expected = predict(bare, NONE, 100, None)
    assert (expected.latency_ms, expected.quality) == (NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY)
    assert (expected.cost_usd, expected.cost_sd_usd) == (None, None)
    assert (expected.carbon_g, expected.carbon_sd_g) == (None, None)
    half_priced = predict(spec(cost_per_input_token=None), NONE, 100, None)
    assert (half_priced.cost_usd, half_priced.cost_sd_usd) == (None, None)


def test_much_near_evidence_moves_the_expectation_to_it() -> None:
    """Two hundred good answers to similar prompts outweigh a mediocre prior."""
    rows = [{"model": "sim/a", "similarity": 0.9, "quality": 1.0, "latency": 500.0, "tokens": 20.0}] * 200
    expected = predict(MODEL, neighbours(rows), 100, None)
    assert expected.quality > 0.95
    assert expected.latency_ms == pytest.approx(500.0, rel=0.1)
    assert expected.output_tokens == pytest.approx(20.0, rel=0.5)
    assert expected.evidence == 200


def test_thin_evidence_moves_it_a_little() -> None:
    """One neighbour against ten imaginary ones of the prompt, and what that leaves against thirty of the model."""
    expected = predict(MODEL, neighbours([{"model": "sim/a", "quality": 1.0}]), 100, None)
    common = 0.4 / (1 + PSEUDO_COUNT_COMMON)
    assert expected.quality == pytest.approx(0.6 + common + (0.4 - common) / (1 + PSEUDO_COUNT_QUALITY))


def test_distant_neighbours_and_other_models_say_nothing() -> None:
    """Below a similarity of 0.2, or for another model, a row is no evidence about quality and latency."""
    rows = [
        {"model": "sim/a", "similarity": 0.1, "quality": 0.0, "latency": 9e5},
        {"model": "sim/b", "similarity": 1.0, "quality": 0.0, "latency": 9e5},
    ]
    expected = predict(MODEL, neighbours(rows), 100, None)
    assert (expected.latency_ms, expected.evidence) == (2_000.0, 0)
    assert expected.quality == pytest.approx(0.6)


def test_the_length_of_similar_answers_is_borrowed_from_other_models() -> None:
    """How long an answer gets is mostly a matter of the prompt."""
    rows = [{"model": "sim/b", "tokens": 2_000.0}] * 50
    assert predict(MODEL, neighbours(rows), 100, None).output_tokens > 1_500


def test_the_client_limit_caps_the_expected_length() -> None:
    """A request for at most ten tokens does not cost 256."""
    assert predict(MODEL, NONE, 100, 10).output_tokens == 10.0


def test_a_prompt_asked_a_thousand_times_is_no_thousand_prompts() -> None:
    """Repeats count at most `REPEAT_CAP` times."""
    repeated = predict(MODEL, neighbours([{"model": "sim/a", "quality": 1.0, "count": 1_000.0}]), 1, None)
    capped = predict(MODEL, neighbours([{"model": "sim/a", "quality": 1.0, "count": REPEAT_CAP}]), 1, None)
    assert repeated.quality == capped.quality


def test_four_passed_checks_count_as_much_as_one_person() -> None:
    """A quality that is little trusted moves the expectation of quality less, and of nothing else."""
    said = {"model": "sim/a", "similarity": 0.9, "quality": 1.0, "latency": 500.0}
    checked, rated = (neighbours([row] * 8) for row in ({**said, "trust": 0.25}, said))
    one, all_of_it = (predict(MODEL, history, 100, None) for history in (checked, rated))
    assert one.quality == pytest.approx(predict(MODEL, neighbours([said] * 2), 100, None).quality)
    assert 0.6 < one.quality < all_of_it.quality
    assert one.quality_sd > all_of_it.quality_sd
    assert (one.latency_ms, one.evidence) == (all_of_it.latency_ms, all_of_it.evidence)


def test_unknown_quality_is_no_evidence_about_quality() -> None:
    """A row without a verdict still speaks of latency."""
    expected = predict(MODEL, neighbours([{"model": "sim/a", "quality": math.nan, "latency": 100.0}]), 1, None)
    assert expected.quality == pytest.approx(0.6)
    assert expected.latency_ms < 2_000.0


ROWS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["sim/a", "sim/b"]),
        "similarity": st.floats(-1, 1, width=32),
        "quality": st.just(math.nan) | st.floats(0, 1, width=32),
        "latency": st.just(math.nan) | st.floats(0, 1e6, width=32),
        "tokens": st.just(math.nan) | st.floats(0, 1e6, width=32),
        "count": st.floats(1, 1e6, width=32),
    }
)


@given(st.lists(ROWS, max_size=30), st.integers(0, 10**6), st.none() | st.integers(1, 10**6))
def test_predictions_are_finite_and_in_range(rows: list[dict[str, float]], prompt: int, limit: int | None) -> None:
    """Whatever the history holds, unknown values included, no NaN and no negative number comes out."""
    expected = predict(MODEL, neighbours(rows), prompt, limit)
    numbers = (expected.cost_usd, expected.latency_ms, expected.quality, expected.carbon_g, expected.output_tokens)
    assert all(number is not None and math.isfinite(number) and number >= 0.0 for number in numbers)
    assert expected.quality <= 1.0 + 1e-6
    assert limit is None or expected.output_tokens <= limit


@given(st.lists(ROWS, min_size=2, max_size=20))
def test_the_order_of_the_neighbours_does_not_matter(rows: list[dict[str, float]]) -> None:
    """Means do not depend on the order in which the history answers."""
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    first = predict(MODEL, neighbours(rows), 10, None)
    second = predict(MODEL, neighbours([rows[i] for i in order]), 10, None)
    assert first.quality == pytest.approx(second.quality, rel=1e-4)
    assert first.latency_ms == pytest.approx(second.latency_ms, rel=1e-3)
