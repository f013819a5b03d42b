"""Names that live in saved histories, schedules and dashboards for ever."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import pytest
from temporalio import activity, workflow

from infra.embedded import temporal as embedded
from infra.temporal.client import SEARCH_ATTRIBUTES
from modelpilot import names
from modelpilot.messages import CallPlan, FallbackInput, RouteRequestInput, StepInput
from modelpilot.records import RequestKey
from tests.support.core import Core
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


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (
            RouteRequestInput,
            """user_id request_id router_id owner nonce created_at config_version plan decision body stream api_key_id
            store_prompts tags session_id""",
        ),
        (
            CallPlan,
            "model specs fallback_models retry_attempts same_model_retries first_token_ms idle_ms total_ms call_format",
        ),
        (StepInput, "nonce request outcome"),
        (FallbackInput, "request failed"),
    ],
)
def test_fields_of_inputs_are_kept(message: type, known: str) -> None:
    """A field that is renamed or removed cannot be read from the histories of running requests any more."""
    assert set(known.split()) <= {field.name for field in fields(message)}


@pytest.mark.parametrize(
    ("message", "required"),
    [
        (
            RouteRequestInput,
            "user_id request_id router_id owner nonce created_at config_version plan decision body",
        ),
        (CallPlan, "model"),
        (StepInput, "nonce"),
        (FallbackInput, "request failed"),
    ],
)
def test_new_fields_have_defaults(message: type, required: str) -> None:
    """A running request of an older gateway does not have them."""
    without = [f.name for f in fields(message) if f.default is MISSING and f.default_factory is MISSING]
    assert without == required.split()
