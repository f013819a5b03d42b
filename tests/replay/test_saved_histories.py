"""Code of today takes over requests and jobs that were begun by code of yesterday."""

import re
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.requests.route_request import RouteRequestInput, RouteRequestResult
from tests.support import aggregation, erase_runs, refit, rescore_runs, routing_runs
from tests.support.core import KEYRING
from tests.support.saved_histories import SavedHistories

REQUESTS = routing_runs.HISTORIES
ALL = (REQUESTS, aggregation.HISTORIES, refit.HISTORIES, rescore_runs.HISTORIES, erase_runs.HISTORIES)
FILES = [pytest.param(saved, path, id=f"{saved.folder}/{path.stem}") for saved in ALL for path in saved.files]


@pytest.mark.parametrize(("saved", "path"), FILES)
async def test_saved_histories_replay(saved: SavedHistories, path: Path) -> None:
    """Sandboxed, and with the converter that gateways and workers use: the same commands in the same order."""
    replayer = Replayer(workflows=[saved.workflow], data_converter=data_converter(KEYRING))
    await replayer.replay_workflow(saved.load(path))


@pytest.mark.parametrize("saved", ALL, ids=lambda saved: saved.folder)
def test_no_history_is_missing(saved: SavedHistories) -> None:
    """Every way that a request or a job can go has its history."""
    assert {path.stem for path in saved.files} == set(saved.names)


@pytest.mark.parametrize(("saved", "path"), FILES)
def test_saved_histories_are_private_and_portable(saved: SavedHistories, path: Path) -> None:
    """Neither prompts nor anything of the machine that made them is in the files."""
    text = path.read_text(encoding="utf-8")
    assert "Simple question" not in text
    assert ".venv" not in text
    assert set(re.findall(r'"identity": "([^"]*)"', text)) == {"test-gateway"}


@workflow.defn(name=names.ROUTE_REQUEST_WORKFLOW)
class Incompatible:
    """The workflow, had somebody taken its steps away."""

    @workflow.run
    async def run(self, request: RouteRequestInput) -> RouteRequestResult:
        """End at once."""
        return RouteRequestResult("completed", request.plan.model, "", 0, None, 0.0)


async def test_an_incompatible_change_is_noticed() -> None:
    """The replay test can fail."""
    replayer = Replayer(
        workflows=[Incompatible],
        data_converter=data_converter(KEYRING),
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    closed_at_once = next(path for path in REQUESTS.files if path.stem == "closed_at_once")
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(REQUESTS.load(closed_at_once))
