"""Names that live in saved histories, schedules and dashboards for ever."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest
from temporalio import activity, workflow

from activities.jobs.erasure import EraseActivities
from activities.jobs.judge import JudgeActivities
from activities.jobs.rescoring import RescoreActivities
from infra.local import stack as embedded
from infra.temporal.client import SEARCH_ATTRIBUTES
from modelpilot import names
from modelpilot.learning.refit import RefitInput, RefitList, RefitReport, RefitResult
from modelpilot.learning.rescoring import (
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
from modelpilot.metrics.aggregation import (
    AggregateInput,
    AggregateTotals,
    ExportInput,
    HoursInput,
    PlanInput,
    PurgeInput,
)
from modelpilot.metrics.jobs import job_workflow_id
from modelpilot.requests.erasure import EraseClose, EraseInput, EraseProgress, EraseReport
from modelpilot.requests.records import HistoryScope, RequestKey
from modelpilot.requests.route_request import (
    CallPlan,
    CallReport,
    FallbackInput,
    RouteRequestInput,
    StepReport,
    StoreInput,
)
from tests.support.aggregation import FakeMetrics
from tests.support.core import Core
from tests.support.erase_runs import FakeErasing
from tests.support.refit import activities
from tests.support.rescore_runs import FakeSteps, job
from workflows import schedules
from workflows.aggregate_hourly import AggregateHourlyWorkflow
from workflows.erasure import EraseWorkflow
from workflows.refit import RefitWorkflow
from workflows.rescore_batch import RescoreBatchWorkflow
from workflows.route_request import RouteRequestWorkflow


def registered(step: Callable[..., Any]) -> str | None:
    """The name under which an activity is registered."""
    return activity._Definition.must_from_callable(step).name


def test_the_workflow_and_its_id() -> None:
    """Running requests are found by them after an upgrade."""
    assert workflow._Definition.must_from_class(RouteRequestWorkflow).name == "RouteRequestWorkflow"
    assert RequestKey("alice", "r1").workflow_id == "route/alice/r1"


async def test_the_activities() -> None:
    """Histories name the steps."""
    assert [registered(step) for step in Core().activities()] == [
        "load_router",
        "embed_prompt",
        "query_history",
        "score_models",
        "call_provider",
        "call_fallback",
        "store_performance",
    ]


def test_queues_and_search_attributes() -> None:
    """Other gateways poll these queues, and people have saved queries over these attributes."""
    assert (names.ROUTING_QUEUE, names.MAINTENANCE_QUEUE) == ("modelpilot-routing", "modelpilot-maintenance")
    assert SEARCH_ATTRIBUTES == ("RouterId", "Model", "Provider", "Outcome")
    assert embedded.SEARCH_ATTRIBUTES == SEARCH_ATTRIBUTES


def test_names_of_the_aggregation() -> None:
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


def test_names_of_refits() -> None:
    """Schedules, other workflows and histories know them."""
    assert workflow._Definition.must_from_class(RefitWorkflow).name == names.REFIT_WORKFLOW == "RefitWorkflow"
    assert names.REFIT_SCHEDULE == schedules.refits().id == "modelpilot-refit"
    steps = activities("", "", 1)
    assert [registered(step) for step in (steps.list_refits, steps.refit_router)] == ["list_refits", "refit_router"]


def test_names_of_rescoring() -> None:
    """Schedules, histories, the API and people know them."""
    definition = workflow._Definition.must_from_class(RescoreBatchWorkflow)
    assert definition.name == "RescoreBatchWorkflow"
    assert set(definition.signals) == {"pause", "resume", "cancel"}
    assert set(definition.queries) == {"progress"}
    assert names.RESCORE_SCHEDULE == schedules.rescoring().id == "modelpilot-rescore-nightly"
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


def test_names_of_erasing() -> None:
    """Histories, the API and people know them."""
    definition = workflow._Definition.must_from_class(EraseWorkflow)
    assert (definition.name, set(definition.queries)) == ("EraseWorkflow", {"progress"})
    assert EraseInput("alice", "erase-1").workflow_id == "erase/alice/erase-1"
    steps: list[Callable[..., Any]] = [
        EraseActivities.open_erasure,
        EraseActivities.erase_slice,
        EraseActivities.close_erasure,
    ]
    found = [registered(step) for step in steps]
    assert found == ["open_erasure", "erase_slice", "close_erasure"]
    assert found == [registered(step) for step in FakeErasing().activities()]


@pytest.mark.parametrize(
    ("message", "known", "required"),
    [
        (
            RouteRequestInput,
            """user_id request_id router_id owner created_at config_version plan decision body steps stream api_key_id
            store_prompts tags session_id""",
            "user_id request_id router_id owner created_at config_version plan decision body",
        ),
        (
            CallPlan,
            "model specs fallback_models retry_attempts same_model_retries first_token_ms idle_ms total_ms call_format",
            "model",
        ),
        (StepReport, "duration_ms detail", ""),
        (CallReport, "outcome", "outcome"),
        (FallbackInput, "request failed began_at", "request failed"),
        (StoreInput, "request outcome", "request outcome"),
        (AggregateInput, "hours_per_step steps_per_run purge_rows totals", ""),
        (AggregateTotals, "known before failed hours requests files exported purged", ""),
        (PlanInput, "", ""),
        (HoursInput, "hours before", "hours"),
        (ExportInput, "files seconds", ""),
        (PurgeInput, "rows batches", ""),
        (RefitInput, "user_id router_id after failed", ""),
        (HistoryScope, "user_id router_id", "user_id router_id"),
        (RefitList, "routers more", ""),
        (RefitReport, "user_id router_id status rows version reason fit duration_s", "user_id router_id status"),
        (RefitResult, "accepted refused skipped report", ""),
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
        (EraseInput, "user_id job_id slices_per_run", "user_id job_id"),
        (EraseProgress, "done total", ""),
        (EraseReport, "progress finished waiting", "progress finished"),
        (EraseClose, "job status error", "job status"),
    ],
)
def test_fields_of_messages(message: type, known: str, required: str) -> None:
    """A field that is renamed or removed cannot be read from the histories of running requests and jobs any more, and
    those of older processes do not have a new one, which therefore needs a default."""
    assert set(known.split()) <= {field.name for field in fields(message)}
    without = [f.name for f in fields(message) if f.default is MISSING and f.default_factory is MISSING]
    assert without == required.split()
