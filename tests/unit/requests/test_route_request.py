"""What an accepted request says of itself."""

from typing import Any

import pytest

from modelpilot.requests.outcome import Outcome
from modelpilot.requests.route_request import RouteRequestResult
from tests.support.core import A, B
from tests.support.routing_samples import plan, request, spec

FAILED = Outcome("failed", "sim/a", "simulator", can_fall_back=True)


@pytest.mark.parametrize(
    ("call_plan", "outcome", "may"),
    [
        (plan(A, B), FAILED, True),
        (plan(A), FAILED, False),
        (plan(A, B, retry_attempts=0), FAILED, False),
        (plan(A, B), Outcome("failed", "sim/a", "simulator"), False),
        (plan(A, B), Outcome("canceled", "sim/a", "simulator", can_fall_back=True), False),
        (plan(A, B), Outcome("completed", "sim/a", "simulator", can_fall_back=True), False),
    ],
)
def test_when_a_first_phase_is_not_the_end(call_plan: Any, outcome: Outcome, may: bool) -> None:
    """Gateway, recovery and workflow ask the same question, so that none of them goes on alone."""
    assert request(call_plan).may_fall_back(outcome) is may


def test_what_is_searched() -> None:
    """At the start what was decided; at the end how it ended, and the model only where another one answered."""
    accepted = request(plan(A, spec("sim/b", provider="other")))
    assert accepted.searched_at_start() == {"RouterId": "support", "Model": "sim/a", "Provider": "simulator"}
    assert request(plan(A), router_id=None).searched_at_start()["RouterId"] == "(direct)"
    assert accepted.searched_at_end(FAILED) == {"Outcome": "failed"}
    elsewhere = Outcome("completed", "sim/b", "other")
    assert accepted.searched_at_end(elsewhere) == {"Outcome": "completed", "Model": "sim/b", "Provider": "other"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "support → sim/a · chat · whole"),
        ({"router_id": None, "stream": True}, "direct → sim/a · chat · streamed"),
    ],
)
def test_the_line_for_the_web_ui(changes: dict[str, Any], line: str) -> None:
    """What was asked of whom, and no text of anybody's."""
    assert request(plan(A), **changes).summary == line


def test_the_result_says_how_it_ended() -> None:
    """In the numbers that people look for first."""
    outcome = Outcome("completed", "sim/b", "simulator", answer={"choices": []}, finish_reason="stop", cost_usd=0.5)
    result = RouteRequestResult.of(outcome)
    assert (result.status, result.model, result.attempts, result.cost_usd) == ("completed", "sim/b", 0, 0.5)
    assert (result.latency_ms, result.finish_reason, result.error_code, result.answer) == (
        0.0,
        "stop",
        None,
        {"choices": []},
    )
