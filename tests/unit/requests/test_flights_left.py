"""Flights whose client leaves, or whose process ends, at every point where one may wait."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from activities.requests.flight import Flight
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.outcome import Outcome, Remedy
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.chunks import Chunk
from tests.support.core import A, B, Core, failure, settle
from tests.support.processes import until
from tests.support.routing_samples import plan, request, stream

LATER = failure("server_error", Remedy.RETRY_SAME, retry_after_s=5.0)
AT_ONCE = failure("server_error", Remedy.RETRY_SAME, retry_after_s=0.0)


class Slow:
    """Something awaited that says when it was begun, and goes on when a test says so."""

    def __init__(self, result: Any = None) -> None:
        self.begun, self.gate, self._result = asyncio.Event(), asyncio.Event(), result
        self.failure: Exception | None = None

    async def __call__(self, *_: Any, **__: Any) -> Any:
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self._result


async def left(core: Core, flight: Flight, begun: Callable[[], bool]) -> Outcome:
    """The recorded outcome of a flight whose client leaves as soon as `begun`."""
    await until(begun)
    core.controller.abandon(flight)
    core.controller.abandon(flight)  # a second time changes nothing
    await asyncio.wait_for(flight.recorded, 10.0)
    assert len(core.registry) == 0
    return core.ledger.rows[flight.key].outcome


async def test_leaving_before_the_flight_has_begun() -> None:
    """Not even its task has run."""
    core = Core()
    outcome = await left(core, core.launched(), lambda: True)
    assert (outcome.status, core.providers.made) == ("canceled", [])


async def test_leaving_in_the_very_turn_in_which_the_call_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call has not reached its first await: it is canceled there, and not lost."""
    core = Core()
    first_phase = core.caller.first_phase

    def begin(*given: Any) -> Any:
        asyncio.get_running_loop().call_soon(core.controller.abandon, flight)
        return first_phase(*given)

    monkeypatch.setattr(core.caller, "first_phase", begin)
    core.providers.will(A, [asyncio.Event()])
    flight = core.launched()
    outcome = await left(core, flight, lambda: flight.abandoned)
    assert (outcome.status, outcome.cost_usd) == ("canceled", 0.0)


async def test_leaving_during_the_call() -> None:
    """The upstream call is closed, and what it cost is in the row."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    flight = core.launched()
    await core.providers.called.wait()
    await settle()
    outcome = await left(core, flight, lambda: True)
    assert (outcome.status, core.providers.made[0].closed) == ("canceled", True)
    assert outcome.cost_usd


async def test_leaving_while_the_upstream_connection_is_closed() -> None:
    """Closing may take its time; the end comes behind it."""
    core, closing = Core(), Slow()

    async def stubborn(call: ProviderCall) -> AsyncGenerator[list[Chunk], None]:
        core.providers.called.set()
        try:
            yield [Chunk(chunk) for chunk in stream()[:2]]
            await asyncio.Event().wait()
        finally:
            await closing()

    core.providers.stream_chat = stubborn  # type: ignore[method-assign]
    flight = core.launched()
    await core.providers.called.wait()
    await settle()
    core.controller.abandon(flight)
    await closing.begun.wait()
    core.controller.abandon(flight)
    core.controller.release()
    closing.gate.set()
    await flight.recorded
    outcome = core.ledger.rows[flight.key].outcome
    assert outcome.status == "canceled"
    assert outcome.cost_usd


@pytest.mark.parametrize("leave", ["abandon", "release"])
async def test_leaving_while_a_refused_key_is_noted(leave: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the call itself the health of its deployment is updated: what the call cost is not lost there, and no
    other deployment is called for nobody."""
    core = Core()
    endpoint = core.cache.endpoint
    slow = Slow(await endpoint("alice", "simulator"))
    core.providers.will(A, [*stream()[:2], failure("authentication", Remedy.RETRY_SAME, refused="key")])
    asked: list[str] = []

    async def second_time(*given: Any) -> ProviderEndpoint:
        asked.append(given[1])
        return await (endpoint if len(asked) == 1 else slow)(*given)

    monkeypatch.setattr(core.cache, "endpoint", second_time)
    flight = core.launched(request(plan(A, same_model_retries=3)))
    await slow.begun.wait()
    if leave == "release":
        core.controller.release()
        with pytest.raises(DependencyUnavailable):
            await flight.ended
        await until(lambda: len(core.registry) == 0)
        assert core.ledger.rows == {}
        return
    outcome = await left(core, flight, lambda: True)
    assert (outcome.status, [attempt.status for attempt in outcome.attempts]) == ("canceled", ["error"])
    assert outcome.cost_usd
    assert len(core.providers.made) == 1


@pytest.mark.parametrize(("models", "status"), [((A,), "failed"), ((A, B), "canceled")])
async def test_leaving_during_the_wait_before_a_repeat(models: tuple[ModelSpec, ...], status: str) -> None:
    """The failed attempt is the end, and where a fallback would follow it is the client's: none for nobody."""
    core = Core()
    core.providers.will(A, [LATER], stream())
    flight = core.launched(request(plan(*models, same_model_retries=1)))
    await until(lambda: bool(core.providers.made) and core.providers.made[0].closed)
    await settle()
    outcome = await left(core, flight, lambda: True)
    assert (outcome.status, len(core.providers.made), core.ledger.handed_over) == (status, 1, set())
    assert [attempt.status for attempt in outcome.attempts] == ["error"]


@pytest.mark.parametrize(("models", "status"), [((A,), "failed"), ((A, B), "canceled")])
async def test_leaving_while_a_repeat_is_claimed(models: tuple[ModelSpec, ...], status: str) -> None:
    """Claimed or not, it is not made."""
    core = Core()
    core.providers.will(A, [AT_ONCE], stream())
    claiming = Slow(True)
    core.leases.claim_call = claiming  # type: ignore[method-assign]
    flight = core.launched(request(plan(*models, same_model_retries=1)))
    outcome = await left(core, flight, claiming.begun.is_set)
    assert (outcome.status, len(core.providers.made), core.ledger.handed_over) == (status, 1, set())


async def test_leaving_while_the_answer_waits_for_its_commit() -> None:
    """There is nothing to stop any more: what was paid for is recorded as it is."""
    core = Core()
    core.workflows.gate.clear()
    core.ledger.accept_gate.clear()
    flight = core.launched()
    await until(lambda: bool(core.providers.made) and core.providers.made[0].completed)
    await settle()
    core.controller.abandon(flight)
    core.ledger.accept_gate.set()
    core.workflows.gate.set()
    await flight.recorded
    assert core.ledger.rows[flight.key].outcome.status == "completed"


@pytest.mark.parametrize("where", ["acceptance", "hand_over"])
async def test_leaving_before_the_workflow_goes_on(where: str) -> None:
    """Between the failed first phase and its fallback: no fallback for nobody, and one row."""
    core = Core()
    core.providers.will(A, [failure()])
    core.workflows.gate.clear()
    slow = Slow(False)
    if where == "acceptance":
        core.ledger.accept_gate.clear()
    else:
        core.ledger.hand_over = slow  # type: ignore[method-assign]
    flight = core.launched(request(plan(A, B)))
    await until(lambda: bool(core.providers.made) and core.providers.made[0].closed)
    await settle()
    core.controller.abandon(flight)
    core.ledger.accept_gate.set()
    core.workflows.gate.set()  # whom a slow machine may have asked already in the ledger's place
    slow.gate.set()
    await asyncio.wait_for(flight.recorded, 10.0)
    outcome = core.ledger.rows[flight.key].outcome
    assert (outcome.status, core.providers.models) == ("canceled", ["a"])
    assert [attempt.seq for attempt in outcome.attempts] == [0]


async def test_leaving_while_the_workflow_carries_the_request_cancels_that() -> None:
    """Only Temporal can stop the next attempt; that it has none is no error here."""
    core = Core()
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.key in core.workflows.handed_over)
    core.controller.abandon(flight)
    await until(lambda: core.workflows.canceled == [flight.key])


async def test_leaving_after_the_end_changes_nothing() -> None:
    """The row says completed, and it stays so."""
    core = Core()
    core.ledger.gate.clear()
    flight = core.launched()
    await flight.ended
    core.controller.abandon(flight)
    core.ledger.gate.set()
    await flight.recorded
    assert (flight.abandoned, core.ledger.rows[flight.key].outcome.status) == (False, "completed")


# Shutting down.


async def released(core: Core, flight: Flight) -> None:
    """The process leaves its requests to others: who waits here is told so, with a time to come back."""
    core.controller.release()
    with pytest.raises(DependencyUnavailable) as caught:
        await flight.ended
    assert caught.value.retry_after_s
    await until(lambda: len(core.registry) == 0)


async def test_a_shutdown_records_no_end() -> None:
    """The call is closed, and another process takes the request over as after a crash."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    flight = core.launched()
    await core.providers.called.wait()
    await settle()
    await released(core, flight)
    assert core.providers.made[0].closed
    assert (core.ledger.rows, core.ledger.attempts[flight.key]) == ({}, {})
    assert core.ledger.open == {flight.key: flight.request}


@pytest.mark.parametrize("named", [False, True])
async def test_a_shutdown_before_the_call_spends_nothing(named: bool) -> None:
    """What was accepted, or is being accepted, is somebody else's."""
    core = Core()
    if named:
        core.ledger.accept_gate.clear()
    flight = core.launched(named=named)
    await released(core, flight)
    core.ledger.accept_gate.set()
    await settle()
    assert (core.providers.made, core.ledger.rows) == ([], {})
    assert core.ledger.open == {flight.key: flight.request}


async def test_clients_that_leave_during_a_shutdown_are_no_cancellation() -> None:
    """Their connections are cut by this process."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    flight = core.launched()
    await core.providers.called.wait()
    core.controller.release()
    core.controller.abandon(flight)
    await until(lambda: len(core.registry) == 0)
    assert (flight.abandoned, core.ledger.rows) == (False, {})


async def test_an_answer_that_is_complete_is_recorded_also_during_a_shutdown() -> None:
    """It was paid for: whoever comes back for it finds it in the ledger."""
    core = Core()
    core.workflows.gate.clear()
    core.ledger.accept_gate.clear()
    flight = core.launched()
    await until(lambda: bool(core.providers.made) and core.providers.made[0].completed)
    await settle()
    await released_keeping(core, flight)
    assert core.ledger.rows[flight.key].outcome.status == "completed"


async def released_keeping(core: Core, flight: Flight) -> None:
    """A shutdown with the stores back, which waits for what is left to write."""
    core.controller.release()
    core.ledger.accept_gate.set()
    core.workflows.gate.set()
    with contextlib.suppress(DependencyUnavailable):
        await flight.ended
    await asyncio.wait_for(flight.recorded, 10.0)


async def test_a_shutdown_behind_a_failed_first_phase_leaves_the_fallback_to_others() -> None:
    """The attempts are committed with the hand-over, so that nobody repeats them; the row is not."""
    core = Core()
    core.providers.will(A, [LATER])
    flight = core.launched(request(plan(A, B, same_model_retries=1)))
    await until(lambda: bool(core.providers.made) and core.providers.made[0].closed)
    await settle()
    await released(core, flight)
    assert (core.ledger.handed_over, set(core.ledger.attempts[flight.key])) == ({flight.key}, {0})
    assert (core.ledger.rows, core.workflows.handed_over, core.providers.models) == ({}, {}, ["a"])


async def test_a_shutdown_without_postgres_records_no_failure() -> None:
    """The fallback that is due is another process', which knows when Postgres is back."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [gate, failure()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.in_ledger)
    hand_over = Slow()
    core.ledger.hand_over = hand_over  # type: ignore[method-assign]
    gate.set()
    await hand_over.begun.wait()
    core.controller.release()
    hand_over.failure = DependencyUnavailable("Postgres is away")
    hand_over.gate.set()
    await until(lambda: len(core.registry) == 0)
    await settle()
    assert core.ledger.written == []


async def test_a_shutdown_while_the_workflow_carries_the_request() -> None:
    """There is nothing to do: its attempts run elsewhere."""
    core = Core()
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B)))
    await until(lambda: flight.key in core.workflows.handed_over)
    await released(core, flight)
    assert (core.ledger.rows, core.workflows.canceled) == ({}, [])


@pytest.mark.parametrize("during", ["call", "wait"])
async def test_a_shutdown_during_a_fallback_of_our_own(during: str) -> None:
    """Temporal is away: the attempt is kept with its cost, no further one is made, and the row is another process'."""
    core = Core()
    core.workflows.up = False
    core.providers.will(A, [failure()])
    core.providers.will(B, [*stream()[:2], asyncio.Event()] if during == "call" else [failure("rate_limited")])
    waiting = asyncio.Event()

    async def sleep(wait_s: float) -> bool:
        waiting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return False

    core.sleep = sleep
    flight = core.launched(request(plan(A, B)))
    await until(lambda: core.providers.models == ["a", "b"])
    await settle()
    assert waiting.is_set() == (during == "wait")
    await released(core, flight)
    kept = core.ledger.attempts[flight.key]
    assert [kept[seq].status for seq in sorted(kept)] == ["error", "canceled" if during == "call" else "error"]
    assert (core.ledger.rows, core.providers.models) == ({}, ["a", "b"])


async def test_a_flight_whose_task_is_canceled_is_told_of_it() -> None:
    """The drain cancels what is left at the end; nobody waits for it any longer."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    flight = core.launched()
    await core.providers.called.wait()
    await core.background.drain(0.0)
    with pytest.raises(DependencyUnavailable):
        await flight.ended
    assert (len(core.registry), core.ledger.rows) == (0, {})
