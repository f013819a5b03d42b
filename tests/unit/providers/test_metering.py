"""What a call is billed by: the provider's report where that can be, else our estimate, marked as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.metering import Charge, Expected, believable, charge
from modelpilot.requests.outcome import BillLine, Usage

OURS = Expected(100, 20, 1_000)


@pytest.mark.parametrize(
    ("reported", "billed", "reason"),
    [
        (Usage(90, 25, 10), Usage(90, 25, 10), None),
        (Usage(90, 5), Usage(90, 5), None),  # the provider's word counts, also where it is less than ours
        (Usage(), Usage(100, 20), "did not count the input tokens; the provider did not count the output tokens"),
        (Usage(90, 0), Usage(90, 20), "did not count the output"),
        (Usage(0, 25), Usage(100, 25), "did not count the input"),
        (Usage(10**19, 25), Usage(100, 25), "counted 1e+19 input tokens"),
        (Usage(90, 30_000), Usage(90, 20), "counted 3e+04 output tokens"),
        (Usage(10**19, 25, 10**18, cache_write_5m_tokens=10**18), Usage(100, 25), "1e+19"),
        (Usage(90, 10**19, 80, 10**18), Usage(90, 20, 80), "1e+19"),
    ],
)
def test_a_whole_answer(reported: Usage, billed: Usage, reason: str | None) -> None:
    """Zeros beside text, and counts beyond twenty windows, cannot be."""
    found, why = believable(reported, OURS, whole=True)
    assert found == billed
    assert (reason is None and why is None) or (reason or "") in (why or "")


def test_a_part_of_an_answer_costs_at_least_what_has_come() -> None:
    """Its report may be of the beginning."""
    assert believable(Usage(90, 5), OURS) == (Usage(90, 20), "the answer was cut before its last count")
    assert believable(Usage(90, 25), OURS) == (Usage(90, 25), None)


def test_nothing_that_came_is_nothing() -> None:
    """A call that failed before its first token."""
    assert believable(Usage(), Expected(0, 0)) == (Usage(), None)


def test_a_total_is_divided() -> None:
    """By the answer that we see."""
    found, why = believable(Usage(120), OURS, whole=True, total_only=True)
    assert (found, why) == (Usage(100, 20), "the provider counted both sides together")


COUNT = st.integers(0, 2**80)


@given(
    st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT), st.booleans(), st.booleans()
)
def test_no_report_is_beyond_bounds(reported: Usage, whole: bool, total_only: bool) -> None:
    """Whatever a provider says, the counts fit into a row and a sum."""
    found, _ = believable(reported, OURS, whole=whole, total_only=total_only)
    assert max(found.input_tokens, found.output_tokens) <= 20_000
    within = found.cached_tokens + found.cache_write_tokens + found.audio_input_tokens + found.image_input_tokens
    assert within <= found.input_tokens
    assert max(found.reasoning_tokens, found.audio_output_tokens + found.image_output_tokens) <= found.output_tokens
    assert found.web_searches <= 1_000


def test_what_the_provider_charged_is_the_bill_and_no_estimate() -> None:
    """Also where our prices or counts are unknown; without its word the lines are the bill."""
    lines = (BillLine("input", 10, 1e-5), BillLine("output", 5, 2e-5))
    assert charge(lines, {"prompt_tokens": 10}, "why") == Charge(lines, 3e-5, None, "why")
    paid = (BillLine("provider", 1, 0.5),)
    assert charge(lines, {"cost": 0.5}, "why") == Charge(paid, 0.5, 3e-5, None)
    assert charge((BillLine("input", 10, None),), {"cost": 0.5}, None) == Charge(paid, 0.5, None, None)
