"""`modelpilot jobs` against a gateway whose answers are known."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fake_gateway import Answer, FakeGateway, refusal, running_gateway
from tests.support.processes import modelpilot

ID = "aggregate-0123456789abcdef"


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with running_gateway() as running:
        monkeypatch.setenv("MODELPILOT_API_URL", running.url)
        monkeypatch.setenv("MODELPILOT_API_KEY", f"mp_{'5a' * 32}")
        yield running


def job(status: str, done: int = 0, total: int = 2) -> dict[str, Any]:
    return {"id": ID, "status": status, "progress": {"done": done, "total": total}}


def stages(*found: dict[str, Any]) -> Any:
    left = list(found)

    def answer(_: Any) -> Answer:
        return 200, left.pop(0)

    return answer


def test_aggregate_says_what_it_began(gateway: FakeGateway) -> None:
    """Without --wait it returns at once, with the id to ask for."""
    gateway.answers["POST /api/jobs/aggregate"] = (202, job("running"))
    done = modelpilot("jobs", "aggregate")
    assert (done.exit_code, done.stdout) == (0, f"job {ID}: running (0 of 2)\n")


@pytest.mark.parametrize(("end", "code"), [("completed", 0), ("failed", 1)])
def test_waiting_for_the_end(gateway: FakeGateway, end: str, code: int) -> None:
    """The exit code is that of the job; a moment without progress does not matter."""
    gateway.answers["POST /api/jobs/aggregate"] = (202, job("running"))
    gateway.answers[f"GET /api/jobs/{ID}"] = stages(job("running", 0, 0), job("running", 1), job(end, 2))
    done = modelpilot("jobs", "aggregate", "--wait")
    assert (done.exit_code, done.stdout) == (code, f"job {ID}: {end} (2 of 2)\n")


def test_show_as_json(gateway: FakeGateway) -> None:
    """For programs."""
    gateway.answers[f"GET /api/jobs/{ID}"] = (200, job("running", 0, 0))
    assert '"done": 0' in modelpilot("jobs", "show", ID, "--json").stdout
    assert modelpilot("jobs", "show", ID).stdout == f"job {ID}: running\n"


def test_an_unknown_job(gateway: FakeGateway) -> None:
    """The gateway's own sentence, and exit code 1."""
    gateway.answers["GET /api/jobs/x"] = refusal(404, "There is no such job.")
    done = modelpilot("jobs", "show", "x")
    assert (done.exit_code, "There is no such job." in done.stderr) == (1, True)
