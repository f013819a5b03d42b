"""What somebody who reads Temporal's database sees of a request: nothing of its content."""

from collections.abc import AsyncIterator

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DefaultPayloadConverter

from infra.crypto.keyring import DecryptionFailed, Keyring, generate_key
from infra.temporal.codec import ENCODING, EncryptionCodec
from modelpilot.providers import retries
from tests.support.core import KEYRING, A, B, failure
from tests.support.routing_runs import Handle, House, accepted, house, of_type
from tests.support.routing_samples import chat_body, plan, stream
from tests.support.saved_histories import connect

PROMPT, ANSWER, SAID = "the secret of the prompt", "the secret of the answer", "the provider says"
SECRETS = (PROMPT, ANSWER, SAID, "provider-secret", "sim/b: server_error", "Postgres is away", "falling back to")


@pytest.fixture
async def home(temporal_address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """An installation whose first model always fails, with a short backoff."""
    monkeypatch.setattr(retries, "INITIAL_WAIT_S", 0.05)
    async with house(await connect(temporal_address)) as found:
        found.core.providers.will(A, [failure(http_status=503)])
        yield found


async def raw_history(address: str, handle: Handle) -> WorkflowHistory:
    """The history as a client without our codec gets it."""
    plain = await Client.connect(address)
    return await plain.get_workflow_handle(handle.id).fetch_history()


def readable(history: WorkflowHistory) -> str:
    """All bytes of the history as text; payloads are bytes in it, not base64."""
    return b"\n".join(event.SerializeToString() for event in history.events).decode("utf-8", "replace")


async def test_prompts_answers_and_errors_are_unreadable(temporal_address: str, home: House) -> None:
    """A fallback that fails once and then answers leaves neither texts nor error messages in the raw history."""
    home.core.providers.will(B, [failure()], stream(ANSWER))
    work = accepted(plan(A, B), body=chat_body(PROMPT))
    handle = home.launch(work)
    result = await home.result(handle)
    assert result.answer is not None
    assert ANSWER in str(result.answer), "whoever has the key can read it"
    text = readable(await raw_history(temporal_address, handle))
    assert "RouteRequestWorkflow" in text
    assert [secret for secret in SECRETS if secret in text] == []


async def test_failures_of_the_store_step_are_unreadable(temporal_address: str, home: House) -> None:
    """Messages and stack traces of failed activities are encrypted with the rest."""
    home.core.ledger.failures = 3
    work = accepted(plan(A), owner="a dead gateway")
    await home.core.ledger.accept(work)
    handle = home.handle(work)
    await home.result(handle)
    history = await raw_history(temporal_address, handle)
    assert of_type(history, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    text = readable(history)
    assert "Encoded failure" in text
    assert [secret for secret in (*SECRETS, "Traceback", "performance.py") if secret in text] == []


async def test_every_payload_of_ours_is_encrypted(temporal_address: str, home: House) -> None:
    """Input, results, summaries: all have our encoding; only search attributes are in clear, as documented."""
    home.core.providers.will(B, stream())
    handle = home.launch(accepted(plan(A, B)))
    await home.result(handle)
    history = await raw_history(temporal_address, handle)
    started = history.events[0].workflow_execution_started_event_attributes
    completed = history.events[-1].workflow_execution_completed_event_attributes
    payloads = [*started.input.payloads, *completed.result.payloads, history.events[0].user_metadata.summary]
    for event in of_type(history, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED):
        payloads += [*event.activity_task_scheduled_event_attributes.input.payloads, event.user_metadata.summary]
    for event in of_type(history, EventType.EVENT_TYPE_MARKER_RECORDED):
        payloads += event.marker_recorded_event_attributes.details["result"].payloads
    assert len(payloads) >= 11
    assert {payload.metadata["encoding"] for payload in payloads} == {ENCODING}


async def test_the_codec_needs_the_key() -> None:
    """Another installation's keyring cannot read a payload; ours can, also after a rotation."""
    (payload,) = DefaultPayloadConverter().to_payloads([PROMPT])
    (sealed,) = await EncryptionCodec(KEYRING).encode([payload])
    assert PROMPT.encode() not in sealed.SerializeToString()
    assert await EncryptionCodec(KEYRING).decode([sealed, payload]) == [payload, payload]
    with pytest.raises(DecryptionFailed):
        await EncryptionCodec(Keyring([generate_key()])).decode([sealed])
