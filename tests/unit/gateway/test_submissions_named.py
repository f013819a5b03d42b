"""Requests with a name of the client's own: an Idempotency-Key, an x-request-id, or an SDK's automatic repeat."""

import asyncio

import pytest

from modelpilot.errors import Conflict, DependencyUnavailable, IdempotencyMismatch, NotFound
from modelpilot.requests.records import Principal, RouterSnapshot
from tests.support.core import A, Core, settle
from tests.support.processes import until
from tests.support.routing_samples import stream

AWAY = DependencyUnavailable("Postgres is away for a moment")
BOB = Principal("bob", "key_2", frozenset({"route"}), None)


@pytest.mark.parametrize("name", ["idempotency_key", "client_name"])
async def test_a_named_request_calls_only_after_the_commit(name: str) -> None:
    """With a name a repeat must find the request, so nothing is spent before the ledger has it."""
    core = Core()
    core.ledger.accept_gate.clear()
    submitting = asyncio.create_task(core.submit(**{name: "k"}))
    await settle()
    assert (core.providers.made, submitting.done(), len(core.registry)) == ([], False, 1)
    core.ledger.accept_gate.set()
    await submitting
    await until(lambda: len(core.providers.made) == 1)


async def test_a_keyed_answer_is_committed_before_it_leaves() -> None:
    """A repeat after a crash finds it in the ledger."""
    core = Core()
    core.acceptance.longest_s = 60.0
    core.ledger.gate.clear()
    submission = await core.submit(idempotency_key="k")
    answering = asyncio.create_task(core.submissions.ended(submission))
    await core.ledger.recording.wait()
    await settle()
    assert not answering.done()
    core.ledger.gate.set()
    record = await answering
    assert (record.outcome.status, record.degraded) == ("completed", ())
    assert submission.key in core.ledger.rows


async def test_a_keyed_answer_does_not_wait_for_ever() -> None:
    """It was paid for: with the ledger gone meanwhile it leaves, and says what is missing; the row follows."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    submission = await core.submit(idempotency_key="k")
    core.ledger.down = True
    gate.set()
    record = await core.submissions.ended(submission)
    assert (record.outcome.status, record.degraded) == ("completed", ("ledger",))
    assert core.ledger.rows == {}
    core.ledger.down = False
    await until(lambda: submission.key in core.ledger.rows)


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
    assert len(core.ledger.open) == 1
    assert len(core.ledger.rows) == 1


async def test_fifty_concurrent_requests_over_two_gateways_are_one_call() -> None:
    """The gateway that loses the race waits for the other's answer instead of writing a failure over it."""
    core = Core()
    other = Core(like=core, instance="gw-2")
    gateways = [core, other] * 25
    outcomes = await asyncio.gather(*(gateway.answer(idempotency_key="k") for gateway in gateways))
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
    await core.submissions.ended(mine)
    await core.submissions.ended(theirs)
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


async def test_who_joined_the_request_that_came_second_gets_the_answer_of_the_first() -> None:
    """Both gateways begin it; the clients that wait at the one whose acceptance came second are not told so."""
    first = Core()
    second = Core(like=first, instance="gw-2")
    first.ledger.accept_gate.clear()
    asking = [asyncio.create_task(core.answer(idempotency_key="k")) for core in (first, second, second, second)]
    await until(lambda: len(first.registry) == len(second.registry) == 1)
    await settle()
    first.ledger.accept_gate.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*asking), 10.0)
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert len(first.providers.made) == 1


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
    await core.submissions.ended(submission)
    assert (await asyncio.wait_for(answering, 10.0)).status == "completed"
    assert len(core.providers.made) == 1


@pytest.mark.parametrize("name", ["idempotency_key", "client_name"])
async def test_a_name_refused_by_the_ledger_can_be_used_again(name: str) -> None:
    """Nothing was spent and nothing accepted, so the repeat is a first try and no replay of the 503."""
    core = Core()
    core.ledger.accept_refusals = [AWAY]
    with pytest.raises(DependencyUnavailable):
        await core.submit(**{name: "mine"})
    assert (core.providers.made, core.ledger.rows) == ([], {})
    await until(lambda: len(core.registry) == 0)
    assert (await core.answer(**{name: "mine"})).status == "completed"
    assert len(core.providers.made) == 1


async def test_an_unexpected_error_of_the_ledger_is_no_hang() -> None:
    """Whatever it raises, the request ends with 503."""
    core = Core()
    core.ledger.accept_refusals = [ZeroDivisionError("a bug")]
    with pytest.raises(DependencyUnavailable):
        await asyncio.wait_for(core.submit(idempotency_key="k"), 10.0)
    await until(lambda: len(core.registry) == 0)


@pytest.mark.parametrize("name", ["idempotency_key", "client_name"])
async def test_a_commit_that_nobody_heard_of_is_carried_on(name: str) -> None:
    """The client was refused, but the request is in the ledger, and its owner lives: so it is ended by its owner, and
    whoever repeats it gets that answer, here or elsewhere."""
    core = Core()
    core.ledger.lost_answers = 1
    with pytest.raises(DependencyUnavailable):
        await core.submit(**{name: "mine"})
    assert len(core.ledger.open) == 1
    for gateway in (core, Core(like=core, instance="gw-2")):
        assert (await asyncio.wait_for(gateway.answer(**{name: "mine"}), 10.0)).status == "completed"
    assert len(core.providers.made) == 1


async def test_a_commit_that_did_not_happen_is_not_carried_on() -> None:
    """Nobody pays for a request that was refused."""
    core = Core()
    core.ledger.accept_refusals = [AWAY]
    with pytest.raises(DependencyUnavailable):
        await core.submit(client_name="mine")
    await settle()
    assert (core.providers.made, len(core.registry)) == ([], 0)


@pytest.mark.parametrize("holder", ["gw-1", "gw-2"])
async def test_who_loses_the_race_for_a_client_name_gets_the_winners_answer(holder: str) -> None:
    """Two gateways, the same new x-request-id at once: one accepted request, and no 409 for one of two equal requests,
    whichever of them reaches the ledger first."""
    core = Core()
    other = Core(like=core, instance="gw-2")
    late = core if holder == "gw-2" else other
    loading, gate = late.cache.router_snapshot, asyncio.Event()

    async def load_late(user_id: str, router_id: str) -> RouterSnapshot:
        await gate.wait()
        return await loading(user_id, router_id)

    late.cache.router_snapshot = load_late  # type: ignore[method-assign]
    asking = [asyncio.create_task(each.answer(client_name="mine")) for each in (core, other)]
    await until(lambda: bool(core.ledger.open))
    gate.set()
    outcomes = await asyncio.gather(*asking)
    assert [outcome.status for outcome in outcomes] == ["completed", "completed"]
    assert [request.owner for request in core.ledger.open.values()] == [holder]
    assert len(core.providers.made) == 1
    stored = await core.ledger.find((await core.submit(client_name="mine")).key)
    assert stored is not None
    assert stored.record.outcome.status == "completed"


async def test_a_request_that_ended_without_an_outcome_is_a_503_not_a_hang() -> None:
    """It was closed by hand on another gateway, for example."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    submission = await core.submit(idempotency_key="k")
    other = Core(like=core, instance="gw-2")
    answering = asyncio.create_task(other.answer(idempotency_key="k"))
    await settle()
    del core.ledger.open[submission.key]
    with pytest.raises(DependencyUnavailable):
        await asyncio.wait_for(answering, 10.0)
    gate.set()


@pytest.mark.parametrize("name", ["idempotency_key", "client_name"])
async def test_a_refused_request_gives_its_name_back(name: str) -> None:
    """A body that cannot be routed was never accepted: the corrected body may have the name."""
    core = Core()
    with pytest.raises(NotFound):
        await core.submit(router_id="unknown", **{name: "mine"})
    assert core.ledger.names == {}
    assert (await core.answer(text="corrected", **{name: "mine"})).status == "completed"


async def test_a_name_that_is_taken_gives_the_key_beside_it_back() -> None:
    """The 409 for the x-request-id accepts nothing, so the key stands for nothing."""
    core = Core()
    await core.answer(client_name="mine")
    with pytest.raises(Conflict):
        await core.submit(text="something else", idempotency_key="k", client_name="mine")
    assert (await core.answer(text="another", idempotency_key="k")).status == "completed"


async def test_a_refused_request_with_the_database_away_says_why_it_was_refused() -> None:
    """The name stays reserved for the same body, and the client learns of its own mistake, not of the database."""
    core = Core()
    loading = core.configuration.router_snapshot

    async def away(user_id: str, router_id: str) -> RouterSnapshot:
        core.ledger.down = True
        return await loading(user_id, router_id)

    core.configuration.router_snapshot = away  # type: ignore[method-assign]
    with pytest.raises(NotFound):
        await core.submit(router_id="unknown", client_name="mine")
    assert len(core.ledger.names) == 1


async def test_a_client_that_leaves_before_the_commit_gets_no_call() -> None:
    """Its name alone is no reason to pay for an answer that nobody waits for; what was accepted ends as canceled."""
    core = Core()
    core.ledger.accept_gate.clear()
    submitting = asyncio.create_task(core.submit(client_name="mine"))
    await settle()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    core.ledger.accept_gate.set()
    await until(lambda: bool(core.ledger.rows))
    (row,) = core.ledger.rows.values()
    assert (row.outcome.status, core.providers.made) == ("canceled", [])


async def test_a_keyed_client_that_leaves_before_the_commit_finds_its_answer() -> None:
    """It can come back with its key, so the request goes on."""
    core = Core()
    core.ledger.accept_gate.clear()
    submitting = asyncio.create_task(core.submit(idempotency_key="k"))
    await settle()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    core.ledger.accept_gate.set()
    assert (await core.answer(idempotency_key="k")).status == "completed"
    assert len(core.providers.made) == 1


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
    assert (await core.submissions.ended(first)).outcome.status == "completed"
    assert len(core.providers.made) == 1
    await core.submit(is_repeat=True)
    await until(lambda: len(core.providers.made) == 2)


async def test_who_joined_outlives_who_began() -> None:
    """The first connection is lost, which is why the SDK repeats: the repeat gets the answer of the one call."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, *stream()])
    first = await core.submit()
    repeat = await core.submit(is_repeat=True)
    await core.submissions.abandon(first)
    gate.set()
    assert (await core.submissions.ended(repeat)).outcome.status == "completed"
    assert len(core.providers.made) == 1


async def test_the_last_client_that_leaves_ends_the_spending() -> None:
    """In whatever order they came and went."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    first = await core.submit()
    repeat = await core.submit(is_repeat=True)
    await core.providers.called.wait()
    await settle()
    await core.submissions.abandon(first)
    await core.submissions.abandon(repeat)
    assert (await core.submissions.ended(first)).outcome.status == "canceled"
    assert core.providers.made[0].closed


async def test_a_repeat_joins_no_request_that_is_being_abandoned() -> None:
    """Its client has left and its call is being canceled: the repeat is a request of its own."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()], stream())
    first = await core.submit()
    await core.providers.called.wait()
    await settle()
    await core.submissions.abandon(first)
    repeat = await core.submit(is_repeat=True)
    assert repeat.key != first.key
    assert (await core.submissions.ended(repeat)).outcome.status == "completed"


async def test_postgres_away_refuses_a_keyed_request_before_anything_is_spent() -> None:
    """Without the table of names nobody knows whether it ran before."""
    core = Core()
    core.ledger.down = True
    with pytest.raises(DependencyUnavailable):
        await core.submit(idempotency_key="k")
    await settle()
    assert (core.providers.made, core.ledger.open, len(core.registry)) == ([], {}, 0)
