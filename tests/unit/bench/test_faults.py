"""The verdicts of `bench faults`: every kind of bad evidence is seen, so that a pass says something."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bench.faults.bench import (
    FlappingEvidence,
    all_passed,
    flapping_json,
    judge_flapping,
    run_json,
    scenarios_of,
    show_faults,
    summarized,
)
from bench.faults.runs import Result, prices, read_stream, read_whole
from bench.faults.scenarios import FAULTS, FLAPPING, SCENARIOS, Expected, Scenario, provider_model, undisturbed
from bench.faults.verdicts import Answered, Evidence, Judgement, judge, worst

PRICES = [prices(0), prices(1)]
CALLS = (Expected(0, "stream_cut", produced=True), Expected(1))
ANSWERED = Scenario("cut", "cut", ("small+cut40", "medium"), CALLS, gaps_s=(0.5,))
REFUSED = Scenario(
    "filter", "content filter", ("small+filter",), (Expected(0, "content_filter"),), error=(400, "content_filter"),
    says="the content filter",
)  # fmt: skip


def _call(second: float, tokens: int, outcome: str = "completed") -> dict[str, Any]:
    return {"receivedS": second, "promptTokens": 10, "tokens": tokens, "outcome": outcome, "status": 200}


def _attempt(model: str, error: str | None, cost_usd: float | None) -> dict[str, Any]:
    status = "ok" if error is None else "error"
    return {"model": model, "status": status, "errorType": error, "costUsd": cost_usd}


# Counted: 10 + 2 × 40 and 2 × (10 + 2 × 60) millionths; the first is an estimate, hence not the same.
ATTEMPTS = [_attempt("m/0", "stream_cut", 100e-6), _attempt("m/1", None, 260e-6)]
GOOD = Evidence(
    status=200,
    seconds=1.5,
    text="the whole answer",
    ended=True,
    finish="stop",
    usage={"completion_tokens": 60},
    described={"selectedModel": "m/1", "costUsd": 360e-6},
    view={"status": "completed", "attempts": ATTEMPTS, "costUsd": 360e-6},
    calls=[_call(100.0, 40, "failed"), _call(101.0, 60)],
    called=[0, 1],
    models=["m/0", "m/1"],
    right_text="the whole answer",
)
ERROR = {"message": "rejected by the content filter", "type": "invalid_request_error", "code": "content_filter"}
CLEAN = Evidence(
    status=400,
    seconds=0.1,
    error=ERROR,
    view={"status": "failed", "attempts": [_attempt("m/0", "content_filter", 0.0)], "costUsd": 0.0},
    calls=[_call(100.0, 0, "failed")],
    called=[0],
    models=["m/0"],
    right_text="the whole answer",
)


def _view(**fields: Any) -> dict[str, Any]:
    return {**GOOD.view, **fields}


def test_good_evidence_passes() -> None:
    """The samples that the other tests spoil are good ones."""
    assert judge(ANSWERED, GOOD, PRICES) == Judgement()
    assert judge(REFUSED, CLEAN, PRICES).verdict == "pass"


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"text": "the whole"}, "not the answer"),
        ({"finish": "length"}, "finish reason length"),
        ({"finish": None}, "finish reason None"),
        ({"error": ERROR}, "an answer with status 200 and error"),
        ({"described": {**GOOD.described, "selectedModel": "m/0"}}, "names m/0, but m/1 answered"),
        ({"usage": {}}, "usage None"),
        ({"calls": [*GOOD.calls, _call(102.0, 60)], "called": [0, 1, 1]}, "3 provider calls, at most 2"),
        ({"calls": [GOOD.calls[0], _call(101.0, 60, "running")]}, "goes on behind"),
        ({"calls": [GOOD.calls[0], _call(100.4, 60)]}, "repeated after 0.40 s"),
        ({"seconds": 50.0}, "took 50.0 s"),
        ({"view": {}}, "row says None"),
        ({"view": _view(status="running")}, "row says running"),
        ({"view": _view(attempts=ATTEMPTS[1:])}, "are not the 2 calls"),
        ({"view": _view(costUsd=260e-6)}, "the row says"),
        ({"described": {**GOOD.described, "costUsd": None}}, "the answer says None"),
        ({"view": _view(attempts=[_attempt("m/0", "stream_cut", 0.0), ATTEMPTS[1]])}, "m/0 (stream_cut) cost 0.0"),
        ({"view": _view(attempts=[_attempt("m/0", "stream_cut", 1e-3), ATTEMPTS[1]])}, "m/0 (stream_cut) cost 0.001"),
        ({"view": _view(attempts=[ATTEMPTS[0], _attempt("m/1", None, 259e-6)])}, "m/1 (None) cost"),
        ({"view": _view(attempts=[ATTEMPTS[0], _attempt("m/1", None, None)])}, "m/1 (None) cost None"),
    ],
)
def test_a_bad_answer_fails(spoilt: dict[str, Any], reason: str) -> None:
    """A wrong text, a wrong bill, a call too many, a lost row: each alone is enough, and is named."""
    judged = judge(ANSWERED, replace(GOOD, **spoilt), PRICES)
    assert judged.verdict == "fail"
    assert reason in "; ".join(judged.wrong)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"status": 0, "error": {}}, "no error that a client could read"),
        ({"error": {**ERROR, "code": None}}, "no error that a client could read"),
        ({"status": 500}, "status 500"),
        ({"status": 200}, "status 200 for an error before the first byte"),
        ({"text": "another"}, "not the beginning of the answer"),
        ({"view": {**CLEAN.view, "status": "completed"}}, "row says completed, not failed"),
        ({"view": {**CLEAN.view, "attempts": [_attempt("m/0", "content_filter", 1e-6)]}}, "cost 1e-06"),
    ],
)
def test_a_bad_failure_fails(spoilt: dict[str, Any], reason: str) -> None:
    """A failure that a client cannot read, or that was billed, is no clean one."""
    judged = judge(REFUSED, replace(CLEAN, **spoilt), PRICES)
    assert judged.verdict == "fail"
    assert reason in "; ".join(judged.wrong)


def test_a_clean_failure_where_an_answer_was_possible_is_safe() -> None:
    """Nothing is wrong, and yet the client could have had its answer."""
    view = {"status": "failed", "attempts": ATTEMPTS[:1], "costUsd": 100e-6}
    half = replace(GOOD, ended=False, text="the whole", error=ERROR, usage={}, finish=None)
    seen = replace(half, view=view, calls=GOOD.calls[:1], called=[0])
    judged = judge(ANSWERED, seen, PRICES)
    assert (judged.verdict, judged.wrong) == ("safe", ())
    assert judged.missed[0] == "no answer: 200 content_filter"


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"status": 502}, "502 content_filter instead of 400"),
        ({"error": {**ERROR, "code": "provider_failed"}}, "400 provider_failed instead of"),
        ({"error": {**ERROR, "message": "it failed"}}, "does not give the provider's reason"),
        ({"view": {**CLEAN.view, "attempts": [_attempt("m/0", "bad_request", 0.0)]}}, "attempts"),
    ],
)
def test_another_error_than_the_right_one_is_only_safe(spoilt: dict[str, Any], reason: str) -> None:
    """The client must learn what the provider said."""
    judged = judge(REFUSED, replace(CLEAN, **spoilt), PRICES)
    assert judged.verdict == "safe"
    assert reason in "; ".join(judged.missed)


FLAPPED = FlappingEvidence(
    requests=40, opened=True, called_while_open=0, burst_s=0.4, probed=True, failing_calls=6, failing_s=6.0,
    came_back=True, state="closed", seconds=20.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("spoilt", "verdict"),
    [
        ({}, "pass"),
        ({"unserved": Counter({"502 provider_failed": 1})}, "fail"),
        ({"requests": 0}, "fail"),
        ({"called_while_open": 2}, "fail"),
        ({"failing_calls": 8}, "fail"),
        ({"opened": False}, "safe"),
        ({"probed": False}, "safe"),
        ({"came_back": False}, "safe"),
        ({"state": "open"}, "safe"),
    ],
)
def test_flapping(spoilt: dict[str, Any], verdict: str) -> None:
    """An unserved client or a hammered model is a failure; a breaker that does not work is not enough."""
    seen = replace(FLAPPED, **spoilt)
    assert judge_flapping(seen).verdict == verdict
    assert flapping_json(seen)["verdict"] == verdict


def test_the_worst_run_decides_and_what_was_not_tried_has_failed() -> None:
    """Fifteen good faults and a forgotten one are no sixteen."""
    assert [worst(["pass", "safe"]), worst(["safe", "fail", "pass"]), worst([])] == ["safe", "fail", "fail"]
    good = run_json(Result(ANSWERED, GOOD, Judgement()))
    results = summarized([(fault, good) for fault in FAULTS])
    assert all_passed(results)
    assert not all_passed(summarized([(fault, good) for fault in FAULTS[1:]]))
    assert not all_passed(summarized([(fault, {**good, "verdict": "safe"}) for fault in FAULTS]))


def test_the_table_names_fault_run_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """A reader sees what was called, what the client got, and why something did not pass."""
    run = run_json(Result(ANSWERED, GOOD, Judgement(missed=("it took a detour",))))
    show_faults(summarized([("cut", run)]))
    printed = capsys.readouterr().out
    for expected in ("small+cut40: 200 stream_cut", "medium: 200 ok", "cut, cut: safe: it took a detour"):
        assert expected in printed
    assert "0 of 16 faults at pass" in printed


def test_the_scenarios_can_be_told_apart() -> None:
    """Sixteen faults, each with a scenario; names and models that evidence can be matched by."""
    assert len(FAULTS) == 16
    assert [fault for fault in FAULTS if not scenarios_of(fault)] == [FLAPPING]
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert len(set(scenario.models)) == len(scenario.models), scenario.name
        answered = scenario.calls[-1].error is None
        assert answered == (scenario.error is None), scenario.name


def test_the_undisturbed_model_keeps_the_length_and_the_filter() -> None:
    """What is held against an answer is the same answer without the fault."""
    assert provider_model("small+cut40") == "small+tokens60+cut40"
    assert undisturbed("small+cut40") == "small+tokens60+latency0"
    assert undisturbed("small+filtered") == "small+tokens60+latency0+filtered"


def test_a_stream_without_its_end_is_not_whole() -> None:
    """`[DONE]` alone makes a stream an answer."""
    chunk = 'data: {"choices": [{"delta": {"content": "half"}}]}\n\n'
    error = 'data: {"error": {"code": "provider_failed"}, "modelpilot": {"costUsd": 1}}\n\n'
    assert not read_stream(chunk).ended
    assert read_stream(chunk + error) == Answered(
        200, text="half", error={"code": "provider_failed"}, described={"costUsd": 1}
    )
    assert read_stream(chunk + "data: [DONE]\n\n").ended


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"detail": "no"}'])
def test_what_is_no_answer_has_neither_text_nor_error(body: str) -> None:
    """A gateway that answers rubbish is not mistaken for one that fails cleanly."""
    assert read_whole(502, body) == Answered(502)
