"""Every accepted request gets its one workflow, and its row goes when that is closed."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from activities.requests import closer as module
from activities.requests.closer import (
    ASK_AGAIN_S,
    ASK_AT_LEAST_S,
    AWAY_S,
    CLAIMED_AT_ONCE,
    FEWEST_STARTS,
    MOST_STARTS,
    QUICK_S,
    RENEW_AFTER_S,
    SLOW_S,
    Closer,
    Pace,
)
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.route_request import RouteRequestInput
from tests.support.closing import DONE, FakeFirstTasks, FakeOpenRequests
from tests.support.core import ManualClock, settle
from tests.support.processes import until

LOST = Outcome("failed", "sim/a", "simulator", error_code="internal_error")


class Site:
    """One closer over rows and a Temporal that a test can change; its clock stands still."""

    def __init__(self) -> None:
        self.rows, self.tasks, self.clock = FakeOpenRequests(), FakeFirstTasks(), ManualClock()
        self.lost: list[RouteRequestInput] = []
        self.lost_failures = 0
        self.closer = self.another()

    def another(self) -> Closer:
        """A closer of the same installation."""
        return Closer(self.rows, self.tasks, self._end_lost, tick_s=0.001, clock=self.clock)

    async def _end_lost(self, request: RouteRequestInput) -> None:
        if self.lost_failures > 0:
            self.lost_failures -= 1
            raise DependencyUnavailable("Postgres is away for a moment")
        self.lost.append(request)
        self.rows.end(request.key, LOST)

    async def turn(self, later_s: float = 0.0) -> int:
        """A turn, so many seconds later."""
        self.clock.now_s += later_s
        return await self.closer.turn()


@pytest.fixture
def site() -> Site:
    """Nothing is there yet."""
    return Site()


async def test_what_has_ended_is_closed_at_once(site: Site) -> None:
    """One start, whose first task is completed with what the row says; then the row goes."""
    key = site.rows.add()
    row = site.rows.rows[key]
    assert await site.turn() == 1
    assert site.tasks.starts == [(key, True)]
    assert site.tasks.workflows[key].completed is row
    assert (site.rows.rows, site.rows.closed, site.closer.closed) == ({}, [[key]], 1)
    assert await site.turn(60.0) == 0
    assert len(site.tasks.starts) == 1


async def test_what_runs_is_seen_running_and_closed_when_it_has_ended(site: Site) -> None:
    """Its first task is held and renewed, and completed as soon as its row says that it has ended."""
    key = site.rows.add(ended=False)
    assert await site.turn() == 0
    assert (site.tasks.starts, site.tasks.workflows[key].closed) == ([(key, True)], False)
    await site.turn(RENEW_AFTER_S - 1.0)
    assert (site.tasks.renewed, len(site.tasks.starts)) == ([], 1)
    for _ in range(3):
        await site.turn(RENEW_AFTER_S)
    assert (site.tasks.renewed, len(site.tasks.starts)) == ([key] * 3, 1)
    site.rows.end(key)
    assert await site.turn(0.2) == 1
    completed = site.tasks.workflows[key].completed
    assert completed is not None
    assert completed.outcome is DONE
    assert (site.rows.rows, site.tasks.given_away) == ({}, [])


async def test_what_is_handed_over_while_it_is_held_gets_to_a_worker(site: Site) -> None:
    """At once; its row stays until the worker's workflow is seen closed."""
    key = site.rows.add(ended=False)
    await site.turn()
    await site.rows.note_handed_over(key)
    await site.turn(0.2)
    assert site.tasks.given_away == [key]
    site.rows.end(key)
    for _ in range(3):
        assert await site.turn(ASK_AT_LEAST_S) == 0
    assert key in site.rows.rows, "the workflow is still to store and to complete"
    site.tasks.end(key)
    assert await site.turn(ASK_AT_LEAST_S) == 1
    assert (site.rows.rows, site.tasks.workflows[key].completed, site.lost) == ({}, None, [])


async def test_a_workflow_that_lasts_is_asked_for_less_and_less_often(site: Site) -> None:
    """Many that last must not become many questions each second; yet none waits for longer than the longest pause."""
    key = site.rows.add(ended=False)
    await site.rows.note_handed_over(key)
    for _ in range(60):
        await site.turn(1.0)
    assert 60 / ASK_AT_LEAST_S <= site.tasks.looks <= 60 / ASK_AT_LEAST_S + 3
    site.rows.end(key)
    site.tasks.end(key)
    await site.turn(ASK_AT_LEAST_S)
    assert key not in site.rows.rows


async def test_what_was_handed_over_before_is_started_for_a_worker(site: Site) -> None:
    """Nobody keeps its first task; it is asked for a second later whether it is closed."""
    key = site.rows.add(ended=False, handed_over=True)
    await site.turn()
    assert site.tasks.starts == [(key, False)]
    looks = site.tasks.looks
    await site.turn(ASK_AGAIN_S / 2.0)
    assert site.tasks.looks == looks
    await site.turn(ASK_AGAIN_S / 2.0)
    assert site.tasks.looks == looks + 1
    site.rows.end(key)
    site.tasks.end(key)
    assert await site.turn(ASK_AT_LEAST_S) == 1


@pytest.mark.parametrize("held", [True, False])
async def test_what_has_lost_its_owner_gets_to_a_worker(site: Site, held: bool) -> None:
    """However it was before: noted in the row, so that no other closer completes it, and given away."""
    key = site.rows.add(ended=False, alive=held)
    if held:
        await site.turn()
        site.rows.lose_owner(key)
    await site.turn(0.2)
    assert (site.tasks.given_away, site.rows.rows[key].handed_over) == ([key], True)
    site.rows.end(key)
    site.tasks.end(key)
    assert await site.turn(ASK_AT_LEAST_S) == 1


async def test_what_ended_before_its_owner_died_is_closed_as_ever(site: Site) -> None:
    """No worker is needed for it."""
    key = site.rows.add(alive=False)
    assert await site.turn() == 1
    assert (site.tasks.given_away, site.tasks.workflows[key].closed) == ([], True)


async def test_what_somebody_else_completed_is_forgotten(site: Site) -> None:
    """A closer died between completing it and noting that: the start says that it is closed."""
    key = site.rows.add()
    site.tasks.end(key)
    assert await site.turn() == 1
    assert (site.tasks.workflows[key].completed, site.rows.rows) == (None, {})


async def test_a_first_task_that_timed_out_is_a_workers(site: Site) -> None:
    """The row goes when that has completed the workflow, and not before."""
    key = site.rows.add(ended=False)
    await site.turn()
    site.tasks.time_out(key)
    site.rows.end(key)
    assert await site.turn(0.2) == 0
    assert key in site.rows.rows
    site.tasks.end(key)
    assert await site.turn(ASK_AT_LEAST_S) == 1


async def test_a_first_task_that_cannot_be_renewed_is_asked_for_again(site: Site) -> None:
    """A worker has it while its request still runs: the closer looks on."""
    key = site.rows.add(ended=False)
    await site.turn()
    site.tasks.time_out(key)
    await site.turn(RENEW_AFTER_S)
    site.rows.end(key)
    site.tasks.end(key)
    assert await site.turn(ASK_AT_LEAST_S) == 1
    assert site.lost == []


async def test_a_row_that_somebody_else_closed_is_let_go(site: Site) -> None:
    """Nothing is done for it any more."""
    key = site.rows.add(ended=False)
    await site.turn()
    del site.rows.rows[key]
    await site.turn(RENEW_AFTER_S)
    assert (site.closer._held, site.tasks.renewed) == ({}, [])


async def test_temporal_away_costs_nothing_but_time(site: Site) -> None:
    """Rows wait, are tried again after a moment and not at every turn, and each gets its one workflow."""
    keys = [site.rows.add(f"r{number}") for number in range(3)]
    site.tasks.down = True
    assert await site.turn() == 0
    assert set(site.rows.rows) == set(keys)
    site.tasks.down = False
    assert await site.turn(AWAY_S / 2.0) == 0
    assert site.tasks.starts == []
    assert await site.turn(AWAY_S / 2.0) == 3
    assert sorted(key.request_id for key, _ in site.tasks.starts) == ["r0", "r1", "r2"]


async def test_temporal_going_away_between_start_and_completion_is_mended(site: Site) -> None:
    """The same start hands out the first task again, also to another closer."""
    key = site.rows.add(ended=False)
    await site.turn()
    site.rows.end(key)
    site.tasks.down = True
    assert await site.turn(0.2) == 0
    site.tasks.down = False
    assert await site.turn(AWAY_S) == 1
    assert site.tasks.starts == [(key, True)] * 2
    assert site.tasks.workflows[key].completed is not None


async def test_a_close_that_failed_is_made_up_for(site: Site) -> None:
    """The workflows are complete, which their next start says; no row is left behind."""
    keys = [site.rows.add(f"r{number}") for number in range(3)]
    site.rows.close_failures = 1
    with pytest.raises(DependencyUnavailable):
        await site.turn()
    assert set(site.rows.rows) == set(keys)
    assert await site.turn(AWAY_S) == 3
    assert site.rows.rows == {}


@pytest.mark.parametrize("broken", ["request", "completion"])
async def test_a_poisonous_row_costs_only_itself(site: Site, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are closed; it is tried again, but not at every turn."""
    keys = [site.rows.add(f"r{number}") for number in range(5)]
    if broken == "request":
        site.rows.rows[keys[2]] = replace(site.rows.rows[keys[2]], request=b'{"user_id": 7}')
    else:
        complete = site.tasks.complete

        async def choosy(token: bytes, *given: Any) -> bool:
            if token.startswith(b"r2#"):
                raise ValueError("an answer that is no JSON")
            return await complete(token, *given)

        monkeypatch.setattr(site.tasks, "complete", choosy)
    assert await site.turn() == 4
    assert list(site.rows.rows) == [keys[2]]
    starts = len(site.tasks.starts)
    await site.turn(AWAY_S)
    assert len(site.tasks.starts) == starts
    monkeypatch.undo()
    site.rows.add("r2")
    assert await site.turn(60.0) == 1
    assert site.rows.rows == {}


async def test_a_workflow_that_was_terminated_by_hand_ends_its_request(site: Site) -> None:
    """Its row says failed. It is looked at twice: the request may have ended between the row and the look."""
    key = site.rows.add(ended=False, handed_over=True)
    await site.turn()
    site.tasks.end(key)
    await site.turn(ASK_AT_LEAST_S)
    assert site.lost == []
    await site.turn(ASK_AT_LEAST_S)
    assert [request.key for request in site.lost] == [key]
    assert await site.turn(ASK_AT_LEAST_S) == 1
    assert (site.rows.rows, len(site.lost)) == ({}, 1)


async def test_an_end_between_two_looks_is_no_loss(site: Site) -> None:
    """The worker stored the row behind our reading of it, and completed the workflow before our look."""
    key = site.rows.add(ended=False, handed_over=True)
    await site.turn()
    site.tasks.end(key)
    await site.turn(ASK_AT_LEAST_S)
    site.rows.end(key)
    assert await site.turn(ASK_AT_LEAST_S) == 1
    assert site.lost == []


async def test_a_lost_request_that_cannot_be_recorded_now_is_recorded_later(site: Site) -> None:
    """Postgres was away for a moment."""
    key = site.rows.add(ended=False, handed_over=True)
    site.lost_failures = 1
    await site.turn()
    site.tasks.end(key)
    for _ in range(3):
        await site.turn(ASK_AT_LEAST_S)
    assert [request.key for request in site.lost] == [key]
    assert await site.turn(ASK_AT_LEAST_S) == 1


async def test_many_rows_are_closed_in_batches(site: Site) -> None:
    """Two turns, one statement each, and no row twice."""
    keys = [site.rows.add(f"r{number}") for number in range(250)]
    assert [await site.turn(), await site.turn(), await site.turn()] == [CLAIMED_AT_ONCE, 50, 0]
    assert [len(batch) for batch in site.rows.closed] == [CLAIMED_AT_ONCE, 50]
    assert sorted(key for batch in site.rows.closed for key in map(str, batch)) == sorted(map(str, keys))
    assert len(site.tasks.starts) == 250


async def test_held_rows_do_not_hold_up_others(site: Site) -> None:
    """Hundreds that run are renewed in their turns, while what has ended is closed."""
    running = [site.rows.add(f"long{number}", ended=False) for number in range(250)]
    await site.turn()
    await site.turn()
    ended = site.rows.add("short")
    await site.turn(RENEW_AFTER_S)
    await site.turn()
    assert sorted(map(str, site.tasks.renewed)) == sorted(map(str, running))
    assert ended not in site.rows.rows


async def test_two_closers_share_the_rows(site: Site) -> None:
    """Each row is one closer's."""
    for number in range(20):
        site.rows.add(f"r{number}")
    other = site.another()
    turns = await asyncio.gather(site.closer.turn(), other.turn())
    assert sum(turns) == 20
    assert len(site.tasks.starts) == 20


async def test_a_few_starts_are_made_at_a_time(site: Site) -> None:
    """A slow Temporal is not flooded."""
    for number in range(20):
        site.rows.add(f"r{number}")
    site.tasks.gate.clear()
    turning = asyncio.create_task(site.closer.turn())
    await until(lambda: site.tasks.at_once == FEWEST_STARTS)
    await settle()
    assert site.tasks.most_at_once == FEWEST_STARTS
    site.clock.now_s += SLOW_S + 1.0
    site.tasks.gate.set()
    assert await turning == 20
    assert site.tasks.most_at_once <= MOST_STARTS


def test_the_pace_follows_temporal() -> None:
    """More at a time while it is quick, half as many once it is slow, and never none."""
    pace = Pace()
    for _ in range(100):
        pace.took(QUICK_S / 2.0)
    assert pace.starts == MOST_STARTS
    pace.took((QUICK_S + SLOW_S) / 2.0)
    assert pace.starts == MOST_STARTS
    pace.took(2.0 * SLOW_S)
    assert pace.starts == MOST_STARTS // 2
    for _ in range(100):
        pace.took(2.0 * SLOW_S)
    assert pace.starts == FEWEST_STARTS


@pytest.mark.parametrize("error", [DependencyUnavailable("Postgres is away"), ZeroDivisionError("a bug")])
async def test_a_closer_goes_on_after_a_failed_turn(
    site: Site, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever failed: rows would pile up without it. What was claimed, and not heard of, is claimed again."""
    monkeypatch.setattr(module, "AWAY_S", 0.001)
    site.rows.failure = error
    site.rows.add()
    running = asyncio.create_task(site.closer.run())
    await until(lambda: site.rows.rows == {})
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_closer_that_is_stopped_leaves_nothing_running(site: Site) -> None:
    """What it was doing is done by another one."""
    for number in range(10):
        site.rows.add(f"r{number}")
    site.tasks.gate.clear()
    running = asyncio.create_task(site.closer.run())
    await until(lambda: site.tasks.at_once > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (site.tasks.at_once, site.closer._running) == (0, set())
    site.tasks.gate.set()
    site.rows.claimed.clear()  # its lease is over
    assert await site.another().turn() == 10
