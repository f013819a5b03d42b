"""Re-scoring jobs that code of yesterday began are ended by code of today; names are for ever."""

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from activities.judging import JudgeActivities
from activities.rescoring import RescoreActivities
from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.rescoring import (
    CloseInput,
    JudgeReport,
    Position,
    RescoreInput,
    RescoreProgress,
    RescoreResult,
    RescoreSpec,
    SliceInput,
    SliceReport,
)
from tests.replay.test_registered_names import registered
from tests.support.core import KEYRING
from tests.support.rescore_runs import FOLDER, SAVED_ID, SCENARIOS, FakeSteps, job
from workflows import schedules
from workflows.rescore_batch import RescoreBatchWorkflow

SAVED = sorted(FOLDER.glob("*.json"))
NIGHTLY = "modelpilot-rescore-nightly"


def loaded(path: Path) -> WorkflowHistory:
    """A saved history, under the workflow id that it was made with."""
    return WorkflowHistory.from_json(SAVED_ID, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_saved_histories_replay(path: Path) -> None:
    """Sandboxed, and with the converter that workers use: the same commands in the same order."""
    replayer = Replayer(workflows=[RescoreBatchWorkflow], data_converter=data_converter(KEYRING))
    await replayer.replay_workflow(loaded(path))


def test_no_history_is_missing() -> None:
    """Every way that a run can go has its history."""
    assert {path.stem for path in SAVED} == set(SCENARIOS)


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_saved_histories_are_portable(path: Path) -> None:
    """Nothing of the machine that made them is in the files."""
    text = path.read_text(encoding="utf-8")
    assert ".venv" not in text
    assert set(re.findall(r'"identity": "([^"]*)"', text)) == {"test-gateway"}


def test_names() -> None:
    """Schedules, histories, the API and people know them."""
    assert workflow._Definition.must_from_class(RescoreBatchWorkflow).name == "RescoreBatchWorkflow"
    assert names.RESCORE_SCHEDULE == schedules.rescoring().id == NIGHTLY
    assert job().workflow_id == "rescore/alice/rescore_1"
    steps: list[Callable[..., Any]] = [
        RescoreActivities.open_rescore,
        RescoreActivities.rescore_slice,
        JudgeActivities.judge_slice,
        RescoreActivities.close_rescore,
    ]
    found = [registered(step) for step in steps]
    assert found == ["open_rescore", "rescore_slice", "judge_slice", "close_rescore"]
    assert sorted(map(str, found)) == sorted(str(registered(step)) for step in FakeSteps().activities())
    definition = workflow._Definition.must_from_class(RescoreBatchWorkflow)
    assert set(definition.signals) == {"pause", "resume", "cancel"}
    assert set(definition.queries) == {"progress"}


@pytest.mark.parametrize(
    ("message", "known", "required"),
    [
        (
            RescoreInput,
            "user_id job_id spec all_users nightly opened paused progress revised_users slices_per_run",
            "user_id job_id spec",
        ),
        (
            RescoreSpec,
            """router_id model from_s to_s sample_size sources judge_model judge_budget_usd judge_rate_per_minute
            allow_self_judging include_pending""",
            "",
        ),
        (RescoreProgress, "done total scored judge_stopped", ""),
        (RescoreResult, "status progress", "status progress"),
        (Position, "user_id created_at request_id", ""),
        (SliceInput, "job until", "job"),
        (SliceReport, "progress finished revised_users", "progress finished"),
        (JudgeReport, "until handled judged wait_s stopped", "until"),
        (CloseInput, "job status error", "job status"),
    ],
)
def test_fields_of_messages(message: type, known: str, required: str) -> None:
    """A field that is renamed cannot be read from a history, and a new one needs a default for older ones."""
    assert set(known.split()) <= {field.name for field in fields(message)}
    without = [f.name for f in fields(message) if f.default is MISSING and f.default_factory is MISSING]
    assert without == required.split()
