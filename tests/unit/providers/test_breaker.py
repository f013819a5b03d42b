"""The circuit breaker's state machine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.providers.breaker import Breaker, BreakerRules, is_healthy
from modelpilot.requests.route_request import CallPlan
from tests.support.core import ManualClock

RULES = BreakerRules(failures_in_a_row=3, minimum_calls=6, first_open_s=5.0, longest_open_s=20.0)


def breaker() -> tuple[Breaker, ManualClock]:
    """A closed one with its clock."""
    clock = ManualClock()
    return Breaker(RULES, clock), clock


def told(one: Breaker, clock: ManualClock, ends: str) -> None:
    """Calls that end now: F failed, S succeeded, N said nothing."""
    for end in ends:
        one.record({"F": False, "S": True, "N": None}[end], clock.now_s)


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ("", "closed"),
        ("FF", "closed"),
        ("FFF", "open"),
        ("FFSFF", "closed"),
        ("FFNF", "open"),
        ("NNNNNNN", "closed"),
        ("FSFSF", "closed"),
        ("SFSFSF", "open"),
        ("SSSSFSFSF", "closed"),
    ],
)
def test_when_it_opens(ends: str, state: str) -> None:
    """Failures in a row, or half of at least six calls; what says nothing counts for nothing."""
    one, clock = breaker()
    told(one, clock, ends)
    assert one.state == state


def test_old_calls_are_forgotten() -> None:
    """A failure share is one of the window."""
    one, clock = breaker()
    told(one, clock, "FSFSF")
    clock.now_s += RULES.window_s + 1.0
    told(one, clock, "S")
    assert (one.state, one.counts) == ("closed", (1, 0))


def test_it_probes_once_and_closes() -> None:
    """After its time one call may try; others wait for that one's success."""
    one, clock = breaker()
    told(one, clock, "FFF")
    assert (one.admits, one.next_probe_s) == (False, 5.0)
    clock.now_s += 5.0
    assert (one.state, one.admits) == ("half_open", True)
    one.reserve()
    assert not one.admits
    told(one, clock, "S")
    assert (one.state, one.admits, one.open_for_s) == ("closed", True, None)


def test_failed_probes_lengthen_its_time_to_a_cap() -> None:
    """5, 10, 20, 20 s; a success starts over."""
    one, clock = breaker()
    told(one, clock, "FFF")
    for open_s in (5.0, 10.0, 20.0, 20.0):
        assert one.next_probe_s == open_s
        clock.now_s += open_s
        told(one, clock, "F")
    clock.now_s += 20.0
    told(one, clock, "SFFF")
    assert one.next_probe_s == 5.0


@pytest.mark.parametrize(("wait_s", "end"), [(0.0, "N"), (RULES.probe_s, "")])
def test_a_probe_that_says_nothing_makes_room_for_another(wait_s: float, end: str) -> None:
    """Canceled, or never heard of again."""
    one, clock = breaker()
    told(one, clock, "FFF")
    clock.now_s += 5.0
    one.reserve()
    clock.now_s += wait_s
    told(one, clock, end)
    assert one.admits


def test_calls_from_before_do_not_count() -> None:
    """A slow success that began before the opening neither closes it nor takes the probe's place."""
    one, clock = breaker()
    told(one, clock, "FFF")
    clock.now_s += 6.0
    one.reserve()
    for healthy in (True, False, None):
        one.record(healthy, clock.now_s - 7.0)
    assert (one.state, one.admits) == ("half_open", False)


def test_concurrent_failures_open_it_once() -> None:
    """A burst that fails while it is open does not lengthen its time."""
    one, clock = breaker()
    told(one, clock, "FFF" + "F" * 50)
    assert one.next_probe_s == 5.0


STEPS = st.lists(st.sampled_from(["F", "S", "N", "reserve"]) | st.floats(0.0, 30.0), max_size=60)


@given(STEPS)
def test_its_invariants_hold_whatever_happens(steps: list[str | float]) -> None:
    """Never open beyond the cap, one probe at a time, and it always admits a call again by waiting."""
    one, clock = breaker()
    for step in steps:
        if isinstance(step, float):
            clock.now_s += step
        elif step == "reserve":
            one.reserve()
            assert one.state == "closed" or not one.admits
        else:
            told(one, clock, step)
        assert 0.0 <= one.next_probe_s <= max(RULES.longest_open_s, RULES.probe_s)
        assert (one.state == "closed") == (one.open_for_s is None)
        assert one.admits == (one.next_probe_s == 0.0)
    clock.now_s += RULES.longest_open_s + RULES.probe_s
    assert one.admits
    told(one, clock, "S")
    assert one.admits


@pytest.mark.parametrize(
    ("status", "error_type", "healthy"),
    [
        ("ok", None, True),
        ("canceled", "canceled", None),
        ("error", "server_error", False),
        ("error", "timeout_connect", False),
        ("error", "timeout_first_token", False),
        ("error", "connection_error", False),
        ("error", "rate_limited", False),
        ("error", "authentication", False),
        ("error", "bad_request", None),
        ("error", "context_length", None),
        ("error", "content_filter", None),
        ("error", "timeout_total", None),
        ("error", "configuration", None),
    ],
)
def test_which_failures_speak_of_the_deployment(status: str, error_type: str | None, healthy: bool | None) -> None:
    """The request's own faults open nobody's breaker."""
    assert is_healthy(status, error_type) is healthy


@pytest.mark.parametrize(
    ("limits", "error_type", "hasty"),
    [
        ({"first_token_ms": 100}, "timeout_first_token", True),
        ({"first_token_ms": 29_999}, "timeout_first_token", True),
        ({}, "timeout_first_token", False),
        ({"first_token_ms": 60_000, "idle_ms": 1}, "timeout_first_token", False),
        ({"idle_ms": 100}, "timeout_idle", True),
        ({}, "timeout_idle", False),
        ({"connect_ms": 50}, "timeout_connect", True),
        ({"first_token_ms": 100}, "timeout_connect", False),
        ({"first_token_ms": 1, "idle_ms": 1, "connect_ms": 1, "total_ms": 1}, "server_error", False),
        ({"first_token_ms": 1, "idle_ms": 1, "connect_ms": 1, "total_ms": 1}, None, False),
    ],
)
def test_which_timeouts_are_of_the_caller(limits: dict[str, Any], error_type: str | None, hasty: bool) -> None:
    """A limit below the default one says nothing; one as long, or any other failure, does."""
    assert CallPlan("sim/a", **limits).is_hasty(error_type) is hasty
