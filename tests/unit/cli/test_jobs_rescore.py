"""`modelpilot jobs rescore|list|pause|resume|cancel`: what they ask of the gateway, and what they say."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_gateway import FakeGateway, listing, refusal, running_gateway
from tests.support.processes import modelpilot

JUDGE = {"model": "sim/large", "judged": 2, "costUsd": 0.01, "budgetUsd": 1.0, "stopped": None}
JOB = {
    "id": "rescore_1", "kind": "rescore", "status": "running", "paused": False, "progress": {"done": 1, "total": 3},
    "scored": 1, "judge": JUDGE, "error": None, "workflowId": "w", "createdAt": "2026-11-23T00:00:00Z",
    "finishedAt": None,
}  # fmt: skip


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with running_gateway() as running:
        monkeypatch.setenv("MODELPILOT_API_URL", running.url)
        monkeypatch.setenv("MODELPILOT_API_KEY", "mp_" + "0" * 64)
        yield running


def body_of(gateway: FakeGateway, call: str) -> Any:
    return next(body for name, body in gateway.calls if name == call)


def test_rescore_sends_what_was_asked_for(gateway: FakeGateway) -> None:
    """Options become the body's fields; what was not given is left to the server."""
    gateway.answers["POST /api/jobs/rescore"] = (202, JOB)
    done = modelpilot(
        "jobs", "rescore", "--router", "demo", "--sample-size", "5", "--judge-model", "sim/large",
        "--judge-budget-usd", "0.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "job rescore_1: running (1 of 3)" in done.output
    assert body_of(gateway, "POST /api/jobs/rescore") == {
        "routerId": "demo", "sampleSize": 5, "sources": ["checks", "feedback", "judge"], "judgeModel": "sim/large",
        "judgeBudgetUsd": 0.5, "allowSelfJudging": False,
    }  # fmt: skip


def test_wait_asks_until_the_end(gateway: FakeGateway) -> None:
    """The exit code is that of the job."""
    states = iter([(200, JOB), (200, {**JOB, "status": "failed"})])
    gateway.answers["POST /api/jobs/rescore"] = (202, JOB)
    gateway.answers["GET /api/jobs/rescore_1"] = lambda _: next(states)
    done = modelpilot("jobs", "rescore", "--wait")
    assert done.exit_code == 1
    assert "failed" in done.output


def test_the_list_shows_costs(gateway: FakeGateway) -> None:
    """What judging cost is in the table, and everything in the JSON."""
    gateway.answers["GET /api/jobs"] = listing(JOB, {**JOB, "id": "rescore_2", "judge": None})
    assert "$0.010000" in modelpilot("jobs", "list").output
    assert [item["id"] for item in json.loads(modelpilot("jobs", "list", "--json").output)] == [
        "rescore_1",
        "rescore_2",
    ]


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_jobs_are_steered(gateway: FakeGateway, action: str) -> None:
    """One call each; a refusal is one line and exit code 1."""
    gateway.answers[f"POST /api/jobs/rescore_1/{action}"] = (200, {**JOB, "paused": True})
    assert modelpilot("jobs", action, "rescore_1").exit_code == 0
    gateway.answers[f"POST /api/jobs/rescore_1/{action}"] = refusal(409, "The job is completed already.")
    refused = modelpilot("jobs", action, "rescore_1")
    assert (refused.exit_code, "completed already" in refused.output) == (1, True)
