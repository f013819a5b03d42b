"""Code of today takes over requests that were begun by code of yesterday."""

import re
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.messages import RouteRequestInput, RouteRequestResult
from tests.support.core import KEYRING
from tests.support.saved_histories import FOLDER, SCENARIOS
from workflows.route_request import RouteRequestWorkflow

SAVED = sorted(FOLDER.glob("*.json"))


def loaded(path: Path) -> WorkflowHistory:
    """A saved history under a workflow id of the usual form."""
    return WorkflowHistory.from_json("route/alice/saved", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_saved_histories_replay(path: Path) -> None:
    """Sandboxed, and with the converter that gateways use: the same commands in the same order."""
    replayer = Replayer(workflows=[RouteRequestWorkflow], data_converter=data_converter(KEYRING))
    await replayer.replay_workflow(loaded(path))


def test_no_history_is_missing() -> None:
    """Every way that a request can go has its history."""
    assert {scenario.__name__ for scenario in SCENARIOS} <= {path.stem for path in SAVED}


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_histories_are_private_and_portable(path: Path) -> None:
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
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(loaded(FOLDER / "happy_path.json"))
