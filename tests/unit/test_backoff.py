"""Which model is tried next, and after how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.retries import LONGEST_SAME_MODEL_WAIT_S, fallback_model, fallback_wait_s, same_model_wait_s


@pytest.mark.parametrize(
    ("attempt", "wait_ms"),
    [(0, 1_000), (1, 2_000), (2, 4_000), (3, 8_000), (4, 16_000), (5, 32_000), (6, 60_000), (7, 60_000), (19, 60_000)],
)
def test_fallback_waits_double_exactly(attempt: int, wait_ms: int) -> None:
    """1000 · 2^i ms without jitter, capped at 60 s."""
    assert fallback_wait_s(attempt) * 1000 == wait_ms


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.integers(0, 30))
def test_fallback_models_take_turns(models: list[str], attempt: int) -> None:
    """Attempt i uses model i mod n."""
    assert fallback_model(models, attempt) == models[attempt % len(models)]


@given(st.integers(0, 5), st.floats(0, 1, exclude_max=True))
def test_same_model_waits_are_jittered_within_bounds(retry: int, jitter: float) -> None:
    """Between half and all of 250 · 2^i ms."""
    wait = same_model_wait_s(retry, None, jitter)
    assert wait is not None
    assert 0.125 * 2**retry <= wait <= 0.25 * 2**retry


@given(st.floats(0, 1, exclude_max=True))
def test_a_short_retry_after_rules_and_a_long_one_forbids(jitter: float) -> None:
    """The provider's own word overrides our wait; one that is too long leaves the work to the fallback."""
    assert same_model_wait_s(0, 2.0, jitter) == 2.0
    assert same_model_wait_s(0, 0.0, jitter) == 0.0
    assert same_model_wait_s(0, LONGEST_SAME_MODEL_WAIT_S, jitter) == LONGEST_SAME_MODEL_WAIT_S
    assert same_model_wait_s(0, LONGEST_SAME_MODEL_WAIT_S + 0.001, jitter) is None
