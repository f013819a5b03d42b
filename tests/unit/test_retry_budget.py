"""The budget for quick repeats of the same model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.retries import BudgetRules, RetryBudget
from tests.support.core import ManualClock

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
