"""What accepts a request, and what is said where something is away."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from activities.requests.flight import Flight, State
from modelpilot.errors import Conflict, DependencyUnavailable, Overloaded
from tests.support.core import A, Core, settle
from tests.support.processes import until
from tests.support.routing_samples import plan, request

AWAY = DependencyUnavailable("Temporal does not answer")


async def accepted(core: Core, **changes: Any) -> Flight:
    """A flight behind its acceptance, which was begun but not launched."""
    flight = core.flight(request(plan(A)), **changes)
    await core.acceptance.accept(flight)
    return flight


@pytest.mark.parametrize(
    ("postgres", "temporal", "needs_ledger", "refused"),
    [
        (True, True, True, False),
        (True, False, True, False),
        (True, False, False, False),
        (False, True, False, False),
        (False, True, True, True),
        (False, False, False, True),
    ],
)
def test_what_could_not_be_accepted_is_refused_before_anything_is_spent(
    postgres: bool, temporal: bool, needs_ledger: bool, refused: bool
) -> None:
    """One of the two stores is enough, except for what only the ledger can keep."""
    core = Core()
    core.postgres.up, core.workflows.up = postgres, temporal
    if not refused:
        core.acceptance.check(needs_ledger=needs_ledger)
        return
    with pytest.raises(DependencyUnavailable) as caught:
        core.acceptance.check(needs_ledger=needs_ledger)
    assert caught.value.retry_after_s


async def test_a_commit_accepts() -> None:
    """Nobody asks Temporal, and nothing is missing."""
    core = Core()
    flight = await accepted(core)
    assert (flight.in_ledger, flight.accepted.done(), flight.degraded) == (True, True, [])
    assert core.ledger.open[flight.key] is flight.request
    assert not core.workflows.asked.is_set()


async def test_temporal_accepts_while_postgres_is_away() -> None:
    """Known to be away, it is not waited for; the answer says so, and the row comes with the outcome."""
    core = Core()
    core.postgres.up = False
    flight = await accepted(core)
    assert core.workflows.accepted == {flight.key: flight.request}
    assert (flight.in_ledger, flight.degraded, core.ledger.open) == (False, ["postgres"], {})
    flight.accepted.result()


async def test_temporal_is_asked_where_the_commit_takes_long() -> None:
    """Whoever of the two is first accepts; the commit may still come."""
    core = Core()
    core.ledger.accept_gate.clear()
    flight = await accepted(core)
    assert (flight.degraded, flight.in_ledger) == (["postgres"], False)
    core.ledger.accept_gate.set()
    await until(lambda: flight.in_ledger)


async def test_a_slow_commit_accepts_where_temporal_is_away() -> None:
    """Behind the time in which a healthy commit would be there, but before the answer cannot wait any longer."""
    core = Core()
    core.workflows.refusal = AWAY
    core.ledger.accept_gate.clear()
    accepting = asyncio.create_task(accepted(core))
    await core.workflows.asked.wait()
    await settle()
    assert not accepting.done()
    core.ledger.accept_gate.set()
    flight = await accepting
    assert (flight.in_ledger, flight.degraded) == (True, [])


@pytest.mark.parametrize("temporal", ["down", "refuses", "breaks"])
async def test_an_answer_that_was_paid_for_leaves_without_either(temporal: str) -> None:
    """After the longest wait, and it says that nobody has the request."""
    core = Core()
    core.ledger.accept_gate.clear()
    core.workflows.up = temporal != "down"
    core.workflows.refusal = {"refuses": AWAY, "breaks": ZeroDivisionError("a bug")}.get(temporal)
    flight = await accepted(core)
    flight.accepted.result()
    assert (flight.in_ledger, flight.degraded) == (False, ["ledger"])
    core.ledger.accept_gate.set()


@pytest.mark.parametrize("error", [AWAY, Overloaded("too many writes"), ValueError("no such shape")])
async def test_a_commit_that_fails_is_no_hang(error: Exception) -> None:
    """Whatever the ledger raises, Temporal is asked, and the answer leaves."""
    core = Core()
    core.ledger.accept_refusals = [error]
    flight = await accepted(core)
    assert (flight.accepted.done(), flight.degraded, flight.in_ledger) == (True, ["postgres"], False)


async def test_a_large_request_is_accepted_by_the_ledger_alone() -> None:
    """Its body is committed before it; Temporal cannot carry it, and is not asked."""
    core = Core()
    large = replace(request(plan(A)), body=None)
    flight = core.flight(large, body=b"a large body")
    await core.acceptance.accept(flight)
    assert (core.ledger.bodies, flight.in_ledger) == ({flight.key: b"a large body"}, True)
    core.ledger.down = True
    second = core.flight(replace(large, request_id="r2"), body=b"another")
    await core.acceptance.accept(second)
    assert (second.degraded, core.workflows.asked.is_set()) == (["ledger"], False)


async def test_a_named_request_is_accepted_by_the_ledger_alone() -> None:
    """Its name is there, and Temporal knows no names."""
    core = Core()
    flight = await accepted(core, named=True)
    flight.accepted.result()
    assert (flight.in_ledger, flight.degraded) == (True, [])
    core.ledger.accept_refusals = [AWAY]
    refused = await accepted(core, named=True)
    assert not core.workflows.asked.is_set()
    with pytest.raises(DependencyUnavailable):
        refused.accepted.result()


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (AWAY, DependencyUnavailable),
        (Overloaded("too many writes"), Overloaded),
        (ZeroDivisionError("a bug"), DependencyUnavailable),
    ],
)
async def test_a_named_request_that_is_not_taken_is_refused(error: Exception, seen: type[Exception]) -> None:
    """Everybody who waits for it hears so, whatever the ledger raised, and nothing of a bug."""
    core = Core()
    core.ledger.accept_refusals = [error]
    flight = await accepted(core, named=True)
    assert flight.state is State.REFUSED
    for future in (flight.accepted, flight.ended):
        with pytest.raises(seen) as caught:
            future.result()
        assert "a bug" not in str(caught.value)


async def test_a_named_request_that_another_gateway_has_is_a_conflict() -> None:
    """Which the ledger decides, and nobody's clock."""
    core = Core()
    theirs = replace(request(plan(A)), owner="gw-2")
    core.ledger.open[theirs.key] = theirs
    flight = await accepted(core, named=True)
    with pytest.raises(Conflict):
        flight.accepted.result()
    assert not flight.in_ledger
