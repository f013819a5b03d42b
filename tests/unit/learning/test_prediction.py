"""What a model is expected to cost, take, deliver and emit, before and after a router has learnt anything."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpilot.learning.estimation import Learner, Outcome, Prediction, RequestFacts, predict_all
from modelpilot.learning.estimation.learner import DEFAULT_OUTPUT_TOKENS, LEVEL_SD, believed_quality
from modelpilot.providers.catalogue import NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY, CatalogueColumns, ModelSpec
from tests.support.routing_samples import NOW, spec

MODEL = spec("sim/a", avg_latency_ms=2_000.0, quality_score=0.6)
OTHER = spec("sim/b", avg_latency_ms=2_000.0, quality_score=0.6)
SAID = Outcome("sim/a", 1.0, 1.0, 1.0, 100.0, 20.0, 500.0, 100.0, NOW)


def expected(models: list[ModelSpec], outcomes: list[Outcome], **facts: object) -> list[Prediction]:
    """The predictions of a router that has learnt these outcomes, each of a prompt of its own."""
    learner = Learner(None, NOW)
    for outcome in outcomes:
        learner.learn(None, [outcome])
    asked = replace(RequestFacts(100), **facts)  # type: ignore[arg-type]
    return predict_all(models, asked, learner.outlook(CatalogueColumns.of(models), NOW))


def test_priors_decide_without_history() -> None:
    """The catalogue's values, and a typical output length."""
    made = predict_all([MODEL], RequestFacts(100))[0]
    assert made.latency_ms == pytest.approx(2_000.0)
    assert made.evidence == 0
    assert made.quality == pytest.approx(0.6)
    assert made.output_tokens == pytest.approx(DEFAULT_OUTPUT_TOKENS)
    assert made.cost_usd == pytest.approx(100e-6 + DEFAULT_OUTPUT_TOKENS * 2e-6)
    assert made.carbon_g == pytest.approx(0.1 * DEFAULT_OUTPUT_TOKENS / 1000)


def test_unknown_catalogue_values_are_neutral_or_unknown() -> None:
    """Quality and latency have neutral priors; price and carbon stay unknown."""
    bare = spec(avg_latency_ms=None, quality_score=None, cost_per_output_token=None, carbon_g_per_1k_tokens=None)
    made = predict_all([bare], RequestFacts(100))[0]
    assert made.latency_ms == pytest.approx(NEUTRAL_LATENCY_MS)
    assert made.quality == NEUTRAL_QUALITY
    assert (made.cost_usd, made.cost_sd_usd) == (None, None)
    assert (made.carbon_g, made.carbon_sd_g) == (None, None)
    half_priced = predict_all([spec(cost_per_input_token=None)], RequestFacts(100))[0]
    assert (half_priced.cost_usd, half_priced.cost_sd_usd) == (None, None)


def test_much_evidence_moves_the_expectation_to_it() -> None:
    """A thousand good, quick and short answers outweigh what the catalogue says."""
    made = expected([MODEL], [SAID] * 1_000)[0]
    assert made.quality > 0.95
    assert made.latency_ms == pytest.approx(500.0, rel=0.1)
    assert made.output_tokens == pytest.approx(20.0, rel=0.1)
    assert made.evidence == 1_000


def test_thin_evidence_moves_it_a_little() -> None:
    """One answer is hardly a reason to think otherwise of a model."""
    made = expected([MODEL], [SAID])[0]
    assert 0.6 < made.quality < 0.61


def test_a_bad_router_is_no_bad_model() -> None:
    """Grades below the catalogue's lower what is expected of the others as well: the prompts are hard."""
    known, untried = expected([MODEL, OTHER], [replace(SAID, quality=0.0)] * 30)
    assert known.quality < untried.quality < 0.6


def test_four_passed_checks_count_about_as_much_as_one_person() -> None:
    """A quality that is little trusted moves the expectation of quality less, and of nothing else."""
    checked, rated = (expected([MODEL], [replace(SAID, weight=weight)] * 40)[0] for weight in (0.25, 1.0))
    assert 0.6 < checked.quality < rated.quality
    fewer = expected([MODEL], [SAID] * 13)[0]  # 0.14 + 0.06 against 0.14 / 0.25 + 0.06
    assert checked.quality == pytest.approx(fewer.quality, abs=1e-3)
    assert checked.quality_sd > rated.quality_sd
    assert (checked.latency_ms, checked.evidence) == (rated.latency_ms, rated.evidence)


def test_a_prompt_asked_a_thousand_times_is_no_thousand_prompts() -> None:
    """Repeats count at most five times."""
    made = [expected([MODEL], [replace(SAID, count=n, weight=n)])[0] for n in (5.0, 1_000.0)]
    assert made[0].quality == made[1].quality
    assert made[0].latency_ms == made[1].latency_ms


def test_unknown_quality_is_no_evidence_about_quality() -> None:
    """An answer without a verdict still speaks of latency."""
    made = expected([MODEL], [replace(SAID, weight=0.0, latency_ms=100.0)] * 3)[0]
    assert made.quality == pytest.approx(0.6)
    assert made.latency_ms < 2_000.0


def test_the_client_limit_caps_the_expected_length() -> None:
    """A request for at most ten tokens does not cost 256."""
    assert predict_all([MODEL], RequestFacts(100, 10))[0].output_tokens == 10.0


def test_a_wordy_tokenizer_makes_prompts_dearer() -> None:
    """At the same price per token, the model that counts more of them in a prompt is the dearer one."""
    wordy = [replace(SAID, model="sim/b", input_tokens=200.0)] * 50
    first, second = expected([MODEL, OTHER], [SAID] * 50 + wordy)
    assert (second.cost_usd or 0.0) > 1.5 * (first.cost_usd or 0.0)


def test_cached_input_is_priced_as_cached() -> None:
    """Tokens that the provider has cached cost their own price."""
    model = [spec("sim/a", cost_per_cached_input_token=0.0)]
    plain, cached = (predict_all(model, RequestFacts(100, cached_tokens=n))[0].cost_usd for n in (0, 100))
    assert plain is not None
    assert cached == pytest.approx(plain - 100e-6)


def test_the_best_of_many_is_believed_to_be_lucky() -> None:
    """A catalogue's differences count as far as they are no error; what is shown stays what it says."""
    models = [spec(f"sim/{n}", quality_score=0.6 + 0.04 * n) for n in range(4)]
    columns = CatalogueColumns.of(models)
    believed, sd = believed_quality(columns)
    kept = 1.0 - LEVEL_SD**2 / float(columns.quality.var(ddof=1))
    assert believed == pytest.approx(0.66 + max(kept, 0.3) * (columns.quality - 0.66))
    assert (sd < LEVEL_SD).all()
    made = predict_all(models, RequestFacts(100))
    assert [each.quality for each in made] == pytest.approx([each.quality_score for each in models])
    assert [each.believed for each in made] == pytest.approx(believed.tolist())


def test_what_is_old_counts_less() -> None:
    """After a half-life of ninety days outcomes count half as much; the order in which they came changes nothing."""
    models = [MODEL]
    learner = Learner(None, NOW)
    for _ in range(200):
        learner.learn(None, [SAID])
    columns = CatalogueColumns.of(models)
    found = [learner.outlook(columns, NOW + days * 86_400.0) for days in (0.0, 90.0, 900.0)]
    assert [each.graded[0] for each in found] == pytest.approx([200.0, 100.0, 200.0 / 1024.0])
    moved = [float(each.expected(None).level[0]) for each in found]
    assert moved == sorted(moved, reverse=True)


def test_no_models_no_predictions() -> None:
    """An empty pool is not an error here."""
    assert predict_all([], RequestFacts(100)) == []


OUTCOMES = st.lists(
    st.builds(
        Outcome,
        model=st.sampled_from(["sim/a", "sim/b", "gone"]),
        count=st.floats(1, 1e6),
        quality=st.floats(0, 1),
        weight=st.just(0.0) | st.floats(1e-3, 1e6),
        input_tokens=st.floats(0, 1e7),
        output_tokens=st.floats(0, 1e7),
        latency_ms=st.floats(0, 1e8),
        prompt_tokens=st.floats(0, 1e7),
        timestamp=st.floats(NOW - 1e8, NOW),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(OUTCOMES, st.integers(0, 10**6), st.none() | st.integers(1, 10**6))
def test_predictions_are_finite_and_in_range(outcomes: list[Outcome], prompt: int, limit: int | None) -> None:
    """Whatever was learnt, no NaN and no negative number comes out, deviations included."""
    for made in expected([MODEL, OTHER], outcomes, prompt_tokens=prompt, max_output_tokens=limit):
        numbers = (made.cost_usd, made.latency_ms, made.quality, made.carbon_g, made.output_tokens)
        spreads = (made.cost_sd_usd, made.latency_sd_ms, made.quality_sd, made.carbon_sd_g)
        assert all(number is not None and math.isfinite(number) and number >= 0.0 for number in numbers + spreads)
        assert made.quality <= 1.0
        assert limit is None or made.output_tokens <= limit


@settings(deadline=None)
@given(OUTCOMES)
def test_the_order_of_the_models_changes_nothing(outcomes: list[Outcome]) -> None:
    """Each model's expectation depends on the evidence, not on its place in a router."""
    plain, moved = expected([MODEL, OTHER], outcomes), expected([OTHER, MODEL], outcomes)
    assert np.array([each[:5] for each in plain]) == pytest.approx(np.array([each[:5] for each in moved[::-1]]))
