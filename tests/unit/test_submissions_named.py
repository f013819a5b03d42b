"""Requests with a name of the client's own: an Idempotency-Key, an x-request-id, or an SDK's automatic repeat."""

import asyncio

import pytest

from modelpilot.errors import Conflict, DependencyUnavailable, IdempotencyMismatch
from modelpilot.records import Principal
from tests.support.core import A, Core
from tests.support.processes import until
from tests.support.routing_samples import stream

DOWN = DependencyUnavailable("Temporal did not acknowledge in time")
BOB = Principal("bob", "key_2", frozenset({"route"}), None)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_keyed_request_calls_only_after_the_acknowledgement() -> None:
    """With a key a repeat must find the workflow, so nothing is spent before Temporal has it."""
    core = Core()
    core.starter.gate.clear()
    submitting = asyncio.create_task(core.submit(idempotency_key="k"))
    await core.starter.starting.wait()
    await settle()
    assert core.providers.made == []
    core.starter.gate.set()
    await submitting
    await until(lambda: len(core.providers.made) == 1)


async def test_a_keyed_answer_is_committed_before_it_leaves() -> None:
    """A repeat after a crash finds it in the ledger."""
    core = Core()
    core.ledger.gate.clear()
    submission = await core.submit(idempotency_key="k")
    answering = asyncio.create_task(core.submissions.outcome(submission))
    await core.ledger.recording.wait()
    await settle()
    assert not answering.done()
    core.ledger.gate.set()
    outcome, _ = await answering
    assert outcome.status == "completed"
    assert submission.key in core.ledger.rows


async def test_an_unkeyed_answer_does_not_wait_for_the_commit() -> None:
    """The row is written at the same moment, not before."""
    core = Core()
    core.ledger.gate.clear()
    assert (await core.answer()).status == "completed"
    assert core.ledger.rows == {}


async def test_fifty_concurrent_requests_of_one_key_are_one_call() -> None:
    """Same key, same body: one workflow, one provider call, one answer for all."""
    core = Core()
    outcomes = await asyncio.gather(*(core.answer(idempotency_key="k") for _ in range(50)))
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert len(core.providers.made) == 1
    assert len(core.starter.started) == 1
    assert len(core.ledger.rows) == 1


async def test_fifty_concurrent_requests_over_two_gateways_are_one_call() -> None:
    """The gateway that loses the race waits for the other's answer instead of writing a failure over it."""
    core = Core()
    other = Core(like=core, instance="gw-2")

    async def closing() -> None:
        await until(lambda: bool(core.ledger.rows))
        for key in list(core.starter.started):
            core.starter.close(key)

    ends = asyncio.create_task(closing())
    gateways = [core, other] * 25
    outcomes = await asyncio.gather(*(gateway.answer(idempotency_key="k") for gateway in gateways))
    await ends
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert len(core.providers.made) == 1
    (row,) = core.ledger.rows.values()
    assert row.outcome.status == "completed"


async def test_the_same_key_with_another_body_is_a_mismatch() -> None:
    """422, and nothing is spent for it."""
    core = Core()
    await core.answer(idempotency_key="k")
    with pytest.raises(IdempotencyMismatch) as caught:
        await core.submit(text="something else", idempotency_key="k")
    assert caught.value.param == "Idempotency-Key"
    assert len(core.providers.made) == 1


async def test_keys_belong_to_their_owner() -> None:
    """Another tenant's same key is another request."""
    core = Core()
    mine, theirs = await core.submit(idempotency_key="k"), await core.submit(idempotency_key="k", principal=BOB)
    await core.submissions.outcome(mine)
    await core.submissions.outcome(theirs)
    assert mine.key != theirs.key
    assert len(core.providers.made) == 2


async def test_a_finished_key_replays_the_answer() -> None:
    """Also after the gateway that gave it is gone, and without a call."""
    core = Core()
    first = await core.answer(idempotency_key="k")
    other = Core(like=core, instance="gw-2")
    again = await other.answer(idempotency_key="k")
    assert again.answer == first.answer
    assert len(core.providers.made) == 1


async def test_a_key_that_runs_elsewhere_is_awaited() -> None:
    """The answer of the other gateway, not a second call."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    submission = await core.submit(idempotency_key="k")
    await core.providers.called.wait()
    other = Core(like=core, instance="gw-2")
    answering = asyncio.create_task(other.answer(idempotency_key="k"))
    await settle()
    assert not answering.done()
    gate.set()
    await core.submissions.outcome(submission)
    core.starter.close(submission.key)
    assert (await asyncio.wait_for(answering, 10.0)).status == "completed"
    assert len(core.providers.made) == 1


async def test_a_key_refused_by_a_dead_temporal_can_be_used_again() -> None:
    """Nothing was spent and nothing accepted, so the repeat is a first try and no replay of the 503."""
    core = Core()
    core.starter.refusal = DOWN
    with pytest.raises(DependencyUnavailable):
        await core.submit(idempotency_key="k")
    assert core.providers.made == []
    core.starter.refusal = None
    assert (await core.answer(idempotency_key="k")).status == "completed"
    assert len(core.providers.made) == 1


async def test_a_client_name_refused_by_a_dead_temporal_can_be_used_again() -> None:
    """The orphan's row does not take the name: the repeat is routed, and both costs are kept."""
    core = Core()
    core.starter.gate.clear()
    core.starter.refusal = DOWN
    refused = await core.submit(client_name="mine")
    await until(lambda: bool(core.providers.made) and core.providers.made[0].completed)
    core.starter.gate.set()
    with pytest.raises(DependencyUnavailable):
        await core.submissions.outcome(refused)
    await settle()
    core.starter.refusal = None
    assert (await core.answer(client_name="mine")).status == "completed"
    await settle()
    assert sorted(row.outcome.status for row in core.ledger.rows.values()) == ["completed", "failed"]


async def test_a_lost_race_for_a_client_name_does_not_hide_the_winner() -> None:
    """Two gateways, the same x-request-id at once: the loser's orphan row is not the request's row."""
    core = Core()
    other = Core(like=core, instance="gw-2")
    answering = (core.answer(client_name="mine"), other.answer(client_name="mine"))
    outcomes = await asyncio.gather(*answering, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] in (["Outcome", "Conflict"], ["Conflict", "Outcome"])
    await settle()
    stored = await core.ledger.find((await core.submit(client_name="mine")).key)
    assert stored is not None
    assert stored.record.outcome.status == "completed"


async def test_a_client_name_finds_its_request() -> None:
    """`x-request-id` names the request; with an Idempotency-Key beside it, the key decides."""
    core = Core()
    assert (await core.submit(client_name="mine")).key.request_id == "mine"
    keyed = await core.submit(idempotency_key="k", client_name="other")
    assert keyed.key.request_id.startswith("key_")
    assert await core.ledger.resolve("alice", "other") == keyed.key.request_id


async def test_a_client_name_of_another_request_is_a_conflict() -> None:
    """409 rather than somebody else's answer."""
    core = Core()
    await core.answer(client_name="mine")
    with pytest.raises(Conflict) as caught:
        await core.submit(text="something else", client_name="mine")
    assert caught.value.param == "x-request-id"


async def test_the_same_client_name_and_body_is_the_same_request() -> None:
    """A client that names its requests gets the recorded answer, not a second call."""
    core = Core()
    await core.answer(client_name="mine")
    assert (await core.answer(client_name="mine")).status == "completed"
    assert len(core.providers.made) == 1


async def test_an_sdk_repeat_joins_the_running_request() -> None:
    """Official SDKs repeat on their own after a timeout: same body, one call; they do not own what they joined."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    first = await core.submit()
    repeat = await core.submit(is_repeat=True)
    assert repeat.key == first.key
    await core.submissions.abandon(repeat)
    gate.set()
    assert (await core.submissions.outcome(first))[0].status == "completed"
    assert len(core.providers.made) == 1
    await core.submit(is_repeat=True)
    await until(lambda: len(core.providers.made) == 2)


async def test_postgres_away_refuses_a_keyed_request_before_anything_is_spent() -> None:
    """Without the table of names nobody knows whether it ran before."""
    core = Core()
    core.ledger.down = True
    with pytest.raises(DependencyUnavailable):
        await core.submit(idempotency_key="k")
    await settle()
    assert (core.providers.made, core.starter.started) == ([], {})
