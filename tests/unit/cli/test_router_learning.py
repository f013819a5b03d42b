"""`modelpilot routers predictor | refit | replay` against a gateway whose answers are known."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_gateway import FakeGateway, refusal, running_gateway
from tests.support.processes import modelpilot

REPORT = {
    "status": "accepted",
    "rows": 900,
    "version": 3,
    "reason": None,
    "fit": {"error": 0.1812, "globalMeanError": 0.2104},
    "durationS": 1.5,
}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with running_gateway() as running:
        monkeypatch.setenv("MODELPILOT_API_URL", running.url)
        monkeypatch.setenv("MODELPILOT_API_KEY", f"mp_{'5a' * 32}")
        running.answers["POST /api/routers/support/refit"] = (202, {"status": "running"})
        yield running


def run_of(status: str, report: dict[str, Any] | None) -> dict[str, Any]:
    """What `GET …/refit` answers."""
    return {"routerId": "support", "workflowId": "refit/a/support", "status": status, "report": report}


def test_refit_waits_and_prints_the_report(gateway: FakeGateway) -> None:
    """It asks until the end, and says how much better than the means the fit is."""
    answers = iter([run_of("running", None), run_of("running", None), run_of("completed", REPORT)])
    gateway.answers["GET /api/routers/support/refit"] = lambda _: (200, next(answers))
    result = modelpilot("routers", "refit", "support")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "router support: accepted, version 3, 900 rows, held-out error 0.1812 (means alone: 0.2104)\n"
    )


REFUSED = {**REPORT, "status": "refused", "reason": "worse than the means"}
SKIPPED = {**REPORT, "status": "skipped", "version": None, "reason": "7 stored outcomes"}


@pytest.mark.parametrize(
    ("run", "code", "said"),
    [
        (run_of("completed", REFUSED), 1, "worse than the means"),
        (run_of("completed", SKIPPED), 0, "7 stored outcomes"),
        (run_of("failed", None), 1, "refit/a/support"),
        (run_of("running", None), 1, "still runs"),
    ],
)
def test_what_is_not_accepted_is_said(gateway: FakeGateway, run: dict[str, Any], code: int, said: str) -> None:
    """A pipeline sees a refused or failed refit by the exit code, a person by the reason."""
    gateway.answers["GET /api/routers/support/refit"] = (200, run)
    result = modelpilot("routers", "refit", "support", "--wait", "0")
    assert result.exit_code == code
    assert said in result.output


def test_the_versions_are_listed_with_their_reasons(gateway: FakeGateway) -> None:
    """Which is in use, and why others are not."""
    at = "2026-01-02T00:00:00Z"
    versions = [
        {"version": 2, "fittedAt": at, "rows": 90, "accepted": False, "report": {"refusedBecause": "worse"}},
        {"version": 1, "fittedAt": at, "rows": 80, "accepted": True, "report": {}},
    ]
    answer = {"routerId": "support", "version": 1, "versions": versions}
    gateway.answers["GET /api/routers/support/predictor"] = (200, answer)
    result = modelpilot("routers", "predictor", "support")
    assert result.stdout.startswith("router support: version 1 is in use\n")
    assert [line.split()[0] for line in result.stdout.splitlines()[3:]] == ["2", "1"]


def interval(mean: float) -> dict[str, float]:
    """A mean with an interval of one tenth."""
    return {"mean": mean, "low": mean * 0.9, "high": mean * 1.1, "requests": 10}


def replayed(reliable: bool) -> dict[str, Any]:
    """What the gateway answers to a replay."""
    parts = ("costUsd", "latencyMs", "quality", "carbonG")
    estimate = {
        "logged": interval(0.5),
        "inversePropensity": interval(0.7),
        "doublyRobust": None,
        "difference": None,
        "effectiveSampleSize": 12.3,
    }
    return {
        "requests": 10,
        "unserved": 1,
        "changedShare": 0.25,
        "predicted": {part: {"logged": interval(1), "proposed": None, "difference": interval(-1)} for part in parts},
        "offPolicy": {"unsupportedShare": 0.1, "quality": estimate, "costUsd": None, "latencyMs": None},
        "models": [{"model": "sim/b", "loggedShare": 0.75, "proposedShare": 1.0, "evidence": 3.0}],
        "thinEvidence": {
            "minimumNeighbours": 10,
            "requestShare": 0.0 if reliable else 0.2,
            "models": [],
            "notConsidered": [] if reliable else [{"model": "x", "because": "fewer than 10 outcomes here"}],
            "effectiveSampleSize": 12.3,
            "offPolicyReliable": reliable,
        },
    }


def test_replay_sends_what_was_given_and_nothing_else(gateway: FakeGateway) -> None:
    """Options become the body's fields; what is left out stays as it was decided."""
    gateway.answers["POST /router/support/replay"] = (200, replayed(True))
    given = ("--quality-weight", "2", "--model", "sim/a", "--model", "sim/b", "--from", "2026-01-01T00:00:00Z")
    result = modelpilot("routers", "replay", "support", *given, "--limit", "50")
    assert result.exit_code == 0, result.output
    assert gateway.calls[-1][1] == {
        "objective": {"qualityWeight": 2.0},
        "availableModels": ["sim/a", "sim/b"],
        "from": "2026-01-01T00:00:00Z",
        "limit": 50,
    }
    assert modelpilot("routers", "replay", "support").exit_code == 0
    assert gateway.calls[-1][1] == {"limit": 1_000}


def test_replay_shows_figures_and_their_weakness(gateway: FakeGateway) -> None:
    """Means with intervals, shares, unknown as unknown; and where the figures stand on little."""
    gateway.answers["POST /router/support/replay"] = (200, replayed(False))
    shown = modelpilot("routers", "replay", "support").stdout
    assert "10 requests; 25.0% would go to another model; 1 could not be served" in shown
    assert "0.7 (0.63 … 0.77)" in shown
    assert "unknown" in shown
    assert "75.0%" in shown
    assert "thin evidence: 20.0%" in shown
    assert "unreliable: worth 12 outcomes" in shown
    assert "not considered: x (fewer than 10 outcomes here)" in shown
    gateway.answers["POST /router/support/replay"] = (200, replayed(True))
    quiet = modelpilot("routers", "replay", "support").stdout
    assert "thin evidence" not in quiet
    assert "unreliable" not in quiet
    as_json = modelpilot("routers", "replay", "support", "--json").stdout
    assert json.loads(as_json)["changedShare"] == 0.25


def test_a_refusal_is_its_message(gateway: FakeGateway) -> None:
    """An unknown router is one sentence and exit code 1."""
    gateway.answers["POST /router/nowhere/replay"] = refusal(404, "router 'nowhere' does not exist")
    result = modelpilot("routers", "replay", "nowhere")
    assert (result.exit_code, result.output) == (1, "modelpilot: router 'nowhere' does not exist\n")
