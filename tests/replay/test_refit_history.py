"""Refits that code of yesterday began are ended by code of today; names are for ever."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.records import HistoryScope
from modelpilot.refit import RefitInput, RefitList, RefitReport, RefitResult
from tests.replay.test_registered_names import registered
from tests.support.core import KEYRING
from tests.support.refit_histories import FOLDER, SCENARIOS, activities
from workflows import schedules
from workflows.refit import RefitWorkflow

SAVED = sorted(FOLDER.glob("*.json"))


def loaded(path: Path) -> WorkflowHistory:
    """A saved history."""
    return WorkflowHistory.from_json("refit", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_saved_histories_replay(path: Path) -> None:
    """Sandboxed, and with the converter that workers use: the same commands in the same order."""
    replayer = Replayer(workflows=[RefitWorkflow], data_converter=data_converter(KEYRING))
    await replayer.replay_workflow(loaded(path))


def test_no_history_is_missing() -> None:
    """Every way that a run can go has its history."""
    assert {path.stem for path in SAVED} == set(SCENARIOS)


def test_names() -> None:
    """Schedules, other workflows and histories know them."""
    assert workflow._Definition.must_from_class(RefitWorkflow).name == names.REFIT_WORKFLOW == "RefitWorkflow"
    assert names.REFIT_SCHEDULE == schedules.refits().id == "modelpilot-refit"
    steps = activities("", "")
    assert [registered(step) for step in (steps.list_refits, steps.refit_router)] == ["list_refits", "refit_router"]


@pytest.mark.parametrize(
    ("message", "known", "required"),
    [
        (RefitInput, "user_id router_id after failed", ""),
        (HistoryScope, "user_id router_id", "user_id router_id"),
        (RefitList, "routers more", ""),
        (RefitReport, "user_id router_id status rows version reason fit duration_s", "user_id router_id status"),
        (RefitResult, "accepted refused skipped report", ""),
    ],
)
def test_fields_of_messages(message: type, known: str, required: str) -> None:
    """A field that is renamed cannot be read from a history, and a new one needs a default for older ones."""
    assert set(known.split()) <= {field.name for field in fields(message)}
    without = [f.name for f in fields(message) if f.default is MISSING and f.default_factory is MISSING]
    assert without == required.split()
