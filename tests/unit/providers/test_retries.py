"""Which model is tried next, and after how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.retries import (
    LONGEST_SAME_MODEL_WAIT_S,
    BudgetRules,
    RetryBudget,
    fallback_model,
    fallback_wait_s,
    same_model_wait_s,
)
from tests.support.core import ManualClock


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.integers(0, 30))
def test_fallback_models_take_turns(models: list[str], attempt: int) -> None:
    """Attempt i uses model i mod n."""
    assert fallback_model(models, attempt) == models[attempt % len(models)]


@pytest.mark.parametrize(
    ("tried", "open_breakers", "model"),
    [
        ("", "", "a"),
        ("", "a", "b"),
        ("a", "a", "b"),  # it failed, and its breaker opened: nobody loses a turn
        ("b", "", "c"),  # "a" was passed over, and is not given its turn back before the others had theirs
        ("b", "c", "a"),
        ("bca", "", "b"),
        ("abc", "a", "b"),
        ("ab", "abc", "c"),  # none may be called: the one whose turn it is
    ],
)
def test_a_model_that_may_not_be_called_is_passed_over(tried: str, open_breakers: str, model: str) -> None:
    """Each model has its turn, whatever opens and closes between the attempts."""
    assert fallback_model("abc", len(tried), tried, lambda name: name not in open_breakers) == model


def test_a_model_that_refused_has_no_turn() -> None:
    """It is not called again, even where no other may be; where all refused there is none."""
    assert fallback_model("abc", 0, refused="a") == "b"
    assert fallback_model("abc", 0, "", lambda name: name == "c", "a") == "c"
    assert fallback_model("abc", 0, "", lambda _: False, "ab") == "c"
    assert fallback_model("abc", 0, refused="abc") is None


@given(st.text("ab", min_size=1, max_size=4), st.integers(0, 8))
def test_turns_follow_from_what_was_tried(models: str, count: int) -> None:
    """Where all may be called, the recorded attempts say the same as their number, also with a model named twice."""
    tried = [fallback_model(models, attempt) or "" for attempt in range(count)]
    assert fallback_model(models, 0, tried) == models[count % len(models)]


def test_waits_between_fallbacks() -> None:
    """The first is immediate, then 1000 · 2^i ms, at most a minute."""
    assert [fallback_wait_s(attempt) for attempt in range(9)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


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


# The budget for quick repeats of the same model.

RULES = BudgetRules()


@pytest.mark.parametrize(("calls", "repeats"), [(0, 10), (10, 10), (50, 10), (51, 11), (100, 20), (1_000, 200)])
def test_a_fifth_of_the_calls_and_ten_in_any_case(calls: int, repeats: int) -> None:
    """Low traffic is not starved of repeats, high traffic is not doubled by them."""
    budget = RetryBudget(RULES, ManualClock())
    for _ in range(calls):
        budget.note_call()
    assert sum(budget.try_spend() for _ in range(calls + 20)) == repeats


def test_the_window_rolls() -> None:
    """What was spent a minute ago is spent no more."""
    clock = ManualClock()
    budget = RetryBudget(RULES, clock)
    assert sum(budget.try_spend() for _ in range(30)) == 10
    clock.now_s += RULES.window_s
    assert budget.try_spend()


@given(st.lists(st.sampled_from(["call", "repeat"]) | st.floats(0.0, 20.0), max_size=200))
def test_repeats_never_exceed_their_share(steps: list[str | float]) -> None:
    """Of all calls so far, whatever the order in which calls, repeats and time come."""
    clock = ManualClock()
    budget, calls, spent = RetryBudget(RULES, clock), 0, 0
    for step in steps:
        if isinstance(step, float):
            clock.now_s += step
        elif step == "call":
            budget.note_call()
            calls += 1
        elif budget.try_spend():
            spent += 1
    windows = 1 + sum(step for step in steps if isinstance(step, float)) // (RULES.window_s * 0.9)
    assert spent <= (windows + 1) * (max(RULES.floor, RULES.share * calls) + 1)
