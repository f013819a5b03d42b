"""What enters Temporal comes out of it as it was."""

from dataclasses import replace
from typing import Any

import pytest
from temporalio.converter import JSONPlainPayloadConverter

from infra.temporal.codec import RouterPayloadConverter
from modelpilot.requests.outcome import Attempt, Outcome, Segment, Usage
from modelpilot.requests.route_request import CallReport, FallbackInput, StepReport, StoreInput
from tests.support.core import A, B
from tests.support.routing_samples import plan, request

STEPS = {"score_models": StepReport(1.5, {"selected": A.id})}
REQUEST = replace(request(plan(A, B)), tags={"team": "ü"}, body='{"text": "\\ud800"}', steps=STEPS)
OUTCOME = Outcome(
    "completed",
    A.id,
    A.provider,
    attempts=(Attempt(0, A.id, A.provider, "error", cost_usd=None), Attempt(1, A.id, A.provider, "ok", cost_usd=1.0)),
    answer={"big": 10**40, "text": "\ud800", "none": None, "nested": [{"a": 1.5}]},
    usage=Usage(1, 2, 3, 4),
    segments=(Segment(1, A.id, 5),),
)


@pytest.mark.parametrize(
    "message",
    [REQUEST, OUTCOME, CallReport(OUTCOME), StoreInput(REQUEST, OUTCOME), FallbackInput(REQUEST, OUTCOME, 1.5)],
)
def test_messages_are_read_as_the_standard_way_reads_them(message: Any) -> None:
    """Also tuples, nested dataclasses, integers beyond 64 bits and lone surrogates."""
    converter = RouterPayloadConverter()
    (payload,) = converter.to_payloads([message])
    assert converter.from_payloads([payload], [type(message)]) == [message]
    assert JSONPlainPayloadConverter().from_payload(payload, type(message)) == message


def test_messages_of_another_version_are_read() -> None:
    """Fields that are not there yet have their defaults, and fields that are not there any more are passed over."""
    (payload,) = RouterPayloadConverter().to_payloads([{"duration_ms": 1.5, "retired": 1}])
    assert RouterPayloadConverter().from_payloads([payload], [StepReport]) == [StepReport(1.5)]


def test_what_is_no_dataclass_goes_the_standard_way() -> None:
    """Numbers, texts and objects without a type."""
    values = [1, "a", {"b": None}, None]
    payloads = RouterPayloadConverter().to_payloads(values)
    assert RouterPayloadConverter().from_payloads(payloads, [int, str, dict, type(None)]) == values
    assert RouterPayloadConverter().from_payloads(payloads) == values
