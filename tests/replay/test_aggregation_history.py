"""Runs of the hourly aggregation that code of yesterday began are ended by code of today; names are for ever."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.aggregation import (
    AggregateInput,
    AggregateTotals,
    ExportInput,
    HoursInput,
    PlanInput,
    PurgeInput,
)
from modelpilot.jobs import job_workflow_id
from tests.replay.test_registered_names import registered
from tests.support.aggregation_histories import FOLDER, SCENARIOS
from tests.support.aggregation_runs import FakeMetrics
from tests.support.core import KEYRING
from workflows.aggregate_hourly import AggregateHourlyWorkflow

SAVED = sorted(FOLDER.glob("*.json"))


def loaded(path: Path) -> WorkflowHistory:
    """A saved history."""
    return WorkflowHistory.from_json("aggregation", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_saved_histories_replay(path: Path) -> None:
    """Sandboxed, and with the converter that workers use: the same commands in the same order."""
    replayer = Replayer(workflows=[AggregateHourlyWorkflow], data_converter=data_converter(KEYRING))
    await replayer.replay_workflow(loaded(path))


def test_no_history_is_missing() -> None:
    """Every way that a run can go has its history."""
    assert {path.stem for path in SAVED} == set(SCENARIOS)


def test_names() -> None:
    """Schedules, histories and people know them."""
    assert workflow._Definition.must_from_class(AggregateHourlyWorkflow).name == "AggregateHourlyWorkflow"
    assert names.AGGREGATE_SCHEDULE == "modelpilot-aggregate-hourly"
    assert [registered(step) for step in FakeMetrics().steps()] == [
        "plan_aggregation",
        "aggregate_hours",
        "export_requests",
        "purge_requests",
    ]
    assert names.JOB_PROGRESS == "progress"
    assert job_workflow_id("alice", "aggregate-1") == "job/alice/aggregate-1"


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (AggregateInput, "hours_per_step steps_per_run purge_rows totals"),
        (AggregateTotals, "known before failed hours requests files exported purged"),
        (PlanInput, ""),
        (HoursInput, "hours before"),
        (ExportInput, "files seconds"),
        (PurgeInput, "rows batches"),
    ],
)
def test_fields_of_inputs(message: type, known: str) -> None:
    """A field that is renamed cannot be read from a history, and a new one needs a default for older ones."""
    assert set(known.split()) <= {field.name for field in fields(message)}
    without = [f.name for f in fields(message) if f.default is MISSING and f.default_factory is MISSING]
    assert without == (["hours"] if message is HoursInput else [])
