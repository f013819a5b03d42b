"""Fitting a router's predictor: what it learns, what it refuses, and that it survives storage."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpilot.errors import InvalidRequest
from modelpilot.learning.estimation import FittedPredictor, TrainingRows, fit
from modelpilot.learning.estimation.fitted import COST, FORMAT_VERSION, LATENCY, OUTPUT_TOKENS, QUALITY
from modelpilot.learning.estimation.sharing import PENALTIES, Factor, non_negative
from tests.support.refit import training_rows, vector

NOW = 1_790_100_000.0


def one_answer_each(rows: TrainingRows, seed: int = 0) -> TrainingRows:
    """As production has it: of every prompt, the outcome of one model."""
    kept = np.flatnonzero(np.random.default_rng(seed).integers(0, 2, len(rows.vectors))[rows.prompt] == rows.model)
    return only(rows, kept)


def only(rows: TrainingRows, kept: np.ndarray) -> TrainingRows:
    """Some of the outcomes."""
    names = ("prompt", "model", "quality", "quality_weight", "input_tokens", "output_tokens", "cost_usd")
    more = ("latency_ms", "ttft_ms", "count", "timestamp")
    return replace(rows, **{name: getattr(rows, name)[kept] for name in (*names, *more)})


def fitted(rows: TrainingRows) -> FittedPredictor:
    """The predictor; the fit must not be refused."""
    made = fit(rows, NOW)
    assert made.predictor is not None, made.report
    return made.predictor


@pytest.mark.parametrize("thinned", [False, True])
def test_which_model_is_better_where(thinned: bool) -> None:
    """Learnt alike from prompts that every model answered and from prompts that one model answered."""
    rows = training_rows(600)
    predictor = fitted(one_answer_each(rows) if thinned else rows)
    for first, better in ((0.7, 0), (-0.7, 1)):
        expected = predictor.forecast(vector(first))[QUALITY]
        assert expected[better] > expected[1 - better] + 0.2


def test_lengths_costs_and_times_are_learnt_and_keep_their_mean() -> None:
    """Log regressions must not bias the mean downwards, and each model has its own level."""
    rows = training_rows(500)
    nature = np.random.default_rng(5)
    long = rows.vectors[rows.prompt, 1] > 0.0
    tokens = np.where(long, 800.0, 100.0) * (1.0 + rows.model) * np.exp(nature.normal(0.0, 0.5, len(rows)))
    rows = replace(rows, output_tokens=tokens, cost_usd=tokens * 1e-6, latency_ms=tokens * 10.0)
    predictor = fitted(rows)
    expected = np.array([predictor.forecast(each)[OUTPUT_TOKENS] for each in rows.vectors])
    assert expected.mean(axis=0) == pytest.approx([tokens[rows.model == m].mean() for m in (0, 1)], rel=0.1)
    lengthy, brief = (predictor.forecast(rows.vectors[np.argmax(sign * rows.vectors[:, 1])]) for sign in (1, -1))
    assert (lengthy[OUTPUT_TOKENS] > 2.0 * brief[OUTPUT_TOKENS]).all()
    assert (lengthy[COST] > 2.0 * brief[COST]).all()
    assert (lengthy[LATENCY] > 2.0 * brief[LATENCY]).all()


def test_noise_is_refused_and_so_are_too_few_rows() -> None:
    """A fit worse than the global means on the held-out slice is no predictor, and the report says so."""
    reports = [fit(training_rows(120, seed=seed, learnable=False), NOW).report for seed in range(8)]
    refused = [report for report in reports if report.refused_because]
    assert refused
    assert all("global means" in str(report.refused_because) for report in refused)
    assert all((r.error or 0.0) >= (r.global_mean_error or 0.0) for r in refused)
    few = fit(training_rows(20), NOW)
    assert few.predictor is None
    assert "fewer than" in str(few.report.refused_because)


def test_without_grades_all_but_quality_is_learnt() -> None:
    """Most answers are never graded; how long and how dear they are is known all the same, and the report says so."""
    rows = training_rows(200)
    made = fit(replace(rows, quality=np.full(len(rows), np.nan)), NOW)
    assert made.predictor is not None
    assert "known quality" in str(made.report.quality_left_out_because)
    assert made.predictor.rows[QUALITY].tolist() == [0.0, 0.0]
    for first in (vector(0.5), None):
        assert made.predictor.forecast(first)[OUTPUT_TOKENS] == pytest.approx([100.0, 100.0], rel=0.01)


def test_unknown_costs_and_times_stay_unknown() -> None:
    """Never 0: a model nobody has timed has no time, while the rest is there."""
    rows = training_rows(200)
    unknown = np.full(len(rows), np.nan)
    forecast = fitted(replace(rows, cost_usd=unknown, latency_ms=unknown)).forecast(rows.vectors[0])
    assert np.isnan(forecast[COST]).all()
    assert np.isnan(forecast[LATENCY]).all()
    assert np.isfinite(forecast[QUALITY]).all()


def test_a_model_with_few_rows_is_near_the_means() -> None:
    """Three lucky answers do not make a model perfect."""
    rows = training_rows(300)
    third = np.concatenate([np.arange(len(rows)), [0, 2, 4]])
    rows = only(rows, third)
    model = rows.model.copy()
    model[-3:] = 2
    quality = rows.quality.copy()
    quality[-3:] = 1.0
    predictor = fitted(replace(rows, models=(*rows.models, "sim/new"), model=model, quality=quality))
    assert 0.4 < predictor.forecast(None)[QUALITY][2] < 0.75


def test_the_order_of_the_rows_does_not_matter() -> None:
    """The same outcomes stored in another order are the same fit: landmarks and slices are chosen by content."""
    rows = training_rows(300)
    order = np.random.default_rng(1).permutation(len(rows))
    prompts = np.random.default_rng(2).permutation(len(rows.vectors))
    moved = replace(only(rows, order), vectors=rows.vectors[prompts])
    moved = replace(moved, prompt=np.argsort(prompts)[moved.prompt])
    first, second = fitted(rows), fitted(moved)
    for each in rows.vectors[:20]:
        np.testing.assert_allclose(first.forecast(each)[QUALITY], second.forecast(each)[QUALITY], atol=1e-3)


def test_the_same_rows_give_the_same_bytes() -> None:
    """A fit is deterministic."""
    rows = training_rows(150)
    assert fitted(rows).to_bytes() == fitted(rows).to_bytes()


def test_storage_keeps_everything() -> None:
    """What was stored predicts what was fitted, exactly, and is small."""
    predictor = fitted(training_rows(200))
    data = predictor.to_bytes()
    again = FittedPredictor.from_bytes(data)
    assert (again.models, again.fitted_at) == (predictor.models, NOW)
    for first in (-1.0, 0.0, 0.5):
        assert again.forecast(vector(first))[QUALITY].tolist() == predictor.forecast(vector(first))[QUALITY].tolist()
    assert len(data) < 2**20


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"nonsense", lambda data: data[: len(data) // 2]])
def test_damaged_bytes_are_an_error(damage: object) -> None:
    """A torn artifact is named, never half a predictor."""
    data = fitted(training_rows(100)).to_bytes()
    with pytest.raises(InvalidRequest):
        FittedPredictor.from_bytes(damage(data))  # type: ignore[operator]


def test_another_format_asks_for_a_new_fit() -> None:
    """An artifact of an older version is refused with what to do about it."""
    with np.load(io.BytesIO(fitted(training_rows(100)).to_bytes())) as archive:
        columns = {**archive, "format": np.array(FORMAT_VERSION - 1)}
    old = io.BytesIO()
    np.savez_compressed(old, **columns)
    with pytest.raises(InvalidRequest, match="fit again"):
        FittedPredictor.from_bytes(old.getvalue())


def test_far_from_everything_is_nearly_the_mean() -> None:
    """A prompt like none before gets the global means."""
    predictor = fitted(training_rows(400))
    strange = np.full(predictor.dimension, 1e3, np.float32)
    strange[::2] = -1e3
    far = predictor.forecast(None)
    assert np.abs(far[QUALITY] - predictor.base[0]).max() < 0.05
    assert np.isfinite(predictor.forecast(strange)[QUALITY]).all()


def test_old_outcomes_count_less() -> None:
    """A model that has become bad is seen to be bad, although it was good for as long."""
    rows = training_rows(400)
    aged = replace(rows, timestamp=np.where(rows.prompt < 200, NOW - 900 * 86_400.0, NOW))
    aged = replace(aged, quality=np.where(aged.model == 0, (aged.prompt < 200).astype(float), aged.quality))
    assert fitted(aged).forecast(None)[QUALITY][0] < 0.2


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 12), st.integers(1, 8), st.integers(0, 10_000))
def test_left_out_predictions_are_those_of_a_fit_without_the_row(rows: int, columns: int, seed: int) -> None:
    """The closed form equals leaving each row out and fitting again, with more and with fewer rows than columns."""
    nature = np.random.default_rng(seed)
    design, target = nature.standard_normal((rows, columns)), nature.standard_normal(rows)
    factor = Factor(design, np.ones(rows))
    path = factor.solve(target)
    place = seed % rows
    others = np.arange(rows) != place
    # With weights of (almost) 0 the row is left out, and so is its part of the means.
    weight = np.where(others, 1.0, 1e-12)
    without = Factor(design, weight).solve(target)
    expected = without.coefficients @ design[place] + without.constant
    np.testing.assert_allclose(path.left_out[:, place], expected, rtol=1e-5, atol=1e-7)
    assert path.coefficients.shape == (len(PENALTIES), columns)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_non_negative_least_squares_meets_its_conditions(size: int, seed: int) -> None:
    """Where x > 0 the gradient vanishes, where x = 0 it points outwards."""
    nature = np.random.default_rng(seed)
    root = nature.standard_normal((size + 3, size))
    gram, moment = root.T @ root + 0.1 * np.eye(size), nature.standard_normal(size)
    x = non_negative(gram, moment, sweeps=5_000)
    gradient = gram @ x - moment
    assert (x >= 0.0).all()
    assert np.abs(gradient[x > 0.0]).max(initial=0.0) < 1e-3
    assert gradient[x == 0.0].min(initial=0.0) > -1e-3


def test_heads_stand_where_their_names_say() -> None:
    """The order of the heads is part of the stored format."""
    assert (QUALITY, OUTPUT_TOKENS, LATENCY, COST) == (0, 1, 2, 3)
