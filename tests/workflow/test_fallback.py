"""The fallback on a real Temporal server: one ordinary activity whose RetryPolicy is the backoff."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from modelpilot.providers import retries
from modelpilot.requests.outcome import Outcome, Remedy
from modelpilot.requests.route_request import CallPlan
from tests.support.core import COST_USD, A, B, C, Core, failure
from tests.support.processes import until
from tests.support.routing_runs import House, accepted, house, of_type, ordinary_steps, own_worker, worker
from tests.support.routing_samples import plan, stream
from tests.support.saved_histories import connect
from workflows import policies

WAIT_S = 0.1


@pytest.fixture
async def client(temporal_address: str) -> Client:
    """A client with encryption."""
    return await connect(temporal_address)


@pytest.fixture
async def home(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """An installation whose first model always fails; the backoff begins at a tenth of a second."""
    monkeypatch.setattr(retries, "INITIAL_WAIT_S", WAIT_S)
    async with house(client) as found:
        found.core.providers.will(A, [failure(http_status=503)])
        yield found


@pytest.fixture
def core(home: House) -> Core:
    """Its gateway."""
    return home.core


def timed(core: Core) -> list[float]:
    """When each provider call began, appended as they come."""
    began: list[float] = []
    stream_chat = core.providers.stream_chat

    def noting(call: Any) -> Any:
        began.append(time.monotonic())
        return stream_chat(call)

    core.providers.stream_chat = noting  # type: ignore[method-assign]
    return began


def gaps(times: Sequence[float]) -> list[float]:
    """Seconds between neighbours."""
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_the_policy_is_the_documented_backoff() -> None:
    """1 s, doubling, at most 60 s, as many attempts as the router says, nothing excluded by type."""
    policy = policies.fallback_retries(plan(A, B, retry_attempts=5))
    assert (policy.initial_interval, policy.backoff_coefficient) == (timedelta(seconds=1), 2.0)
    assert (policy.maximum_interval, policy.maximum_attempts) == (timedelta(seconds=60), 5)
    assert not policy.non_retryable_error_types


def test_timeouts_follow_from_the_total_time() -> None:
    """The fallback has what the first phase left; the first phase may be recovered once."""
    failed = Outcome("failed", "sim/a", "simulator", remaining_ms=12_000.0)
    assert policies.fallback_timeout(failed) == timedelta(seconds=27)
    assert policies.first_phase_timeout(plan(A, total_ms=30_000)) == timedelta(seconds=120)


async def test_the_first_fallback_answers_at_once(home: House, core: Core) -> None:
    """One ordinary activity with the policy in its event, its first attempt immediate, and a readable summary."""
    work = accepted(plan(A, B))
    handle = home.launch(work)
    result = await home.result(handle)
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 2)
    assert core.providers.models == ["a", "b"]
    history = await handle.fetch_history()
    assert ordinary_steps(history) == [("call_fallback", 1)]
    (scheduled,) = of_type(history, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    policy = scheduled.activity_task_scheduled_event_attributes.retry_policy
    assert policy.initial_interval.ToTimedelta() == timedelta(seconds=WAIT_S)
    assert (policy.backoff_coefficient, policy.maximum_attempts) == (2.0, 3)
    assert policy.maximum_interval.ToTimedelta() == timedelta(seconds=60)
    summary = await home.client.data_converter.decode([scheduled.user_metadata.summary])
    assert summary == ["sim/a failed (server_error); falling back to sim/b"]
    attributes = {pair.key.name: pair.value for pair in (await handle.describe()).typed_search_attributes}
    assert (attributes["Model"], attributes["Outcome"]) == ("sim/b", "completed")


async def test_fallback_models_take_turns_and_waits_double(home: House, core: Core) -> None:
    """Attempt i uses model i mod n; the waits before attempts 2 and 3 are at least the policy's and twice that."""
    core.providers.will(B, [failure()])
    core.providers.will(C, [failure()])
    began = timed(core)
    work = accepted(plan(A, B, C, retry_attempts=4))
    handle = home.launch(work)
    result = await home.result(handle)
    assert (result.status, result.model, result.attempts) == ("failed", "sim/c", 5)
    assert core.providers.models == ["a", "b", "c", "b", "c"]
    waits = gaps(began)
    assert waits[1] >= WAIT_S
    assert waits[2] >= 2 * WAIT_S
    assert waits[3] >= 4 * WAIT_S
    assert ordinary_steps(await handle.fetch_history()) == [("call_fallback", 4)]


async def test_every_attempt_is_in_the_row_and_paid(home: House, core: Core) -> None:
    """Failed attempts count with what they had generated; sequence numbers tell the phases apart."""
    core.providers.will(B, [*stream(tokens=None)[:2], failure("stream_cut")], stream())
    work = accepted(plan(A, B))
    await home.result(home.launch(work))
    row = core.ledger.rows[work.key]
    assert [attempt.seq for attempt in row.outcome.attempts] == [0, 100, 101]
    assert [attempt.status for attempt in row.outcome.attempts] == ["error", "error", "ok"]
    cut = row.outcome.attempts[1].cost_usd
    assert cut
    assert row.outcome.cost_usd == pytest.approx(COST_USD + cut)
    assert row.fallback_used
    assert len(core.ledger.rows) == 1


async def test_what_no_retry_mends_ends_the_fallback(home: House, core: Core) -> None:
    """A refusal of the request itself is returned as the outcome, not retried."""
    core.providers.will(B, [failure("content_filter", Remedy.GIVE_UP, http_status=400)])
    work = accepted(plan(A, B, C))
    handle = home.launch(work)
    result = await home.result(handle)
    assert (result.status, result.error_code) == ("failed", "content_filter")
    assert ordinary_steps(await handle.fetch_history()) == [("call_fallback", 1)]
    assert core.providers.models == ["a", "b"]


@pytest.mark.parametrize(("plan_of_two", "least_s"), [(plan(A, B), 0.6), (plan(A, B, C), WAIT_S)])
async def test_retry_after_counts_for_the_same_model_only(
    home: House, core: Core, plan_of_two: CallPlan, least_s: float
) -> None:
    """The provider's own wait overrides the backoff where the next model is the same; another one is asked sooner."""
    wait_s = 0.6 if least_s == 0.6 else 50.0  # the test's own timeout would notice fifty seconds
    core.providers.will(B, [failure("rate_limited", http_status=429, retry_after_s=wait_s)], stream())
    began = timed(core)
    result = await home.result(home.launch(accepted(plan_of_two)))
    assert result.status == "completed"
    assert gaps(began)[1] >= least_s


async def test_no_fallback_models_means_no_fallback(home: House, core: Core) -> None:
    """The failed outcome is the end, without an ordinary activity."""
    handle = home.launch(accepted(plan(A)))
    assert (await home.result(handle)).status == "failed"
    assert ordinary_steps(await handle.fetch_history()) == []


async def test_canceling_ends_the_fallback_call(home: House, core: Core) -> None:
    """Canceled during a fallback: the upstream call is closed, one canceled row with all that was spent."""
    core.providers.will(B, [*stream()[:2], asyncio.Event()])
    work = accepted(plan(A, B))
    handle = home.launch(work)
    await until(lambda: core.providers.models == ["a", "b"])
    await handle.cancel()
    result = await home.result(handle)
    assert (result.status, result.attempts) == ("canceled", 2)
    assert core.providers.made[1].closed
    assert core.ledger.rows[work.key].outcome.cost_usd


async def test_canceling_between_two_attempts_calls_nothing_more(
    home: House, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canceled during the wait: no further call, and the failed attempt's cost is in the canceled row."""
    monkeypatch.setattr(retries, "INITIAL_WAIT_S", 20.0)
    core.providers.will(B, [*stream(tokens=None)[:2], failure("stream_cut")])
    work = accepted(plan(A, B))
    handle = home.launch(work)
    await until(lambda: 100 in core.ledger.attempts.get(work.key, {}))
    await handle.cancel()
    assert (await home.result(handle)).status == "canceled"
    row = core.ledger.rows[work.key]
    assert [attempt.seq for attempt in row.outcome.attempts] == [0, 100]
    assert row.outcome.cost_usd
    assert core.providers.models == ["a", "b"]


async def test_a_fallback_in_another_process_ends_the_request_here(client: Client) -> None:
    """The owner does not take the attempt from its queue, so a worker makes it: one row, and the owner's client gets
    the outcome."""
    async with house(client, working=False) as home, worker(client, home.worker_core.activities()):
        home.core.providers.will(A, [failure()])
        work = accepted(plan(A, B))
        flight = home.core.flight(work)
        home.core.controller.launch(flight)
        record = await asyncio.wait_for(flight.ended, 30.0)
        result = await home.result(home.handle(work))
    assert (result.status, record.outcome.model) == ("completed", "sim/b")
    assert len(home.core.ledger.rows) == 1
    assert home.core.ledger.rows[work.key].fallback_used


async def test_a_recovery_goes_on_with_the_fallback(client: Client) -> None:
    """The owner died after the failed first phase was in the ledger: the failed model is not called again."""
    async with house(client, working=False) as home:
        home.core.providers.will(A, [failure()])
        work = accepted(plan(A, B))
        home.core.controller.launch(home.core.flight(work))
        await until(lambda: work.key in home.core.ledger.handed_over)
        home.core.leases.alive.discard("gw-1")
        async with worker(client, home.worker_core.activities()):
            result = await home.result(home.handle(work))
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 2)
    assert home.core.providers.models == ["a", "b"]


async def test_a_rolling_restart_cancels_no_fallback(client: Client) -> None:
    """The gateway ends during a fallback call: a worker makes the attempt again, and the row has both calls."""
    async with house(client, working=False) as home, worker(client, home.worker_core.activities()):
        home.core.providers.will(A, [failure()])
        home.core.providers.will(B, [*stream()[:2], asyncio.Event()], stream())
        work = accepted(plan(A, B, retry_attempts=1))
        async with own_worker(client, home.core):
            handle = home.launch(work)
            await until(lambda: home.core.providers.models == ["a", "b"])
            home.core.controller.release()
        home.core.leases.alive.discard("gw-1")
        result = await home.result(handle)
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 3)
    assert home.core.providers.made[1].closed
    (row,) = home.core.ledger.rows.values()
    assert [attempt.status for attempt in row.outcome.attempts] == ["error", "canceled", "ok"]


async def test_a_worker_that_ends_leaves_the_fallback_to_another(client: Client) -> None:
    """The same on the shared queue."""
    async with house(client, working=False) as home:
        home.core.providers.will(A, [failure()])
        home.core.providers.will(B, [*stream()[:2], asyncio.Event()], stream())
        work = accepted(plan(A, B), owner="a dead gateway")
        await home.core.ledger.accept(work)
        async with worker(client, home.worker_core.activities()):
            await until(lambda: home.core.providers.models == ["a", "b"])
        home.core.leases.alive.discard("worker-1")
        third = Core(like=home.core, instance="worker-2")
        async with worker(client, third.activities()):
            result = await home.result(home.handle(work))
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 3)


async def test_without_temporal_the_gateway_falls_back_itself(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits and claims; when Temporal is back, the request gets its one workflow."""
    monkeypatch.setattr(retries, "INITIAL_WAIT_S", WAIT_S)
    async with house(client, closing=False) as home:
        home.core.providers.will(A, [failure()])
        home.core.providers.will(B, [failure()], stream())
        home.health.report(up=False)
        began = timed(home.core)
        work = accepted(plan(A, B))
        flight = await home.core.settled(work)
        assert flight.record is not None
        assert (flight.record.outcome.model, flight.record.degraded) == ("sim/b", ("temporal",))
        assert gaps(began)[1] >= WAIT_S
        closing = asyncio.create_task(home.closer.run())
        result = await home.result(home.handle(work))
        closing.cancel()
    assert (result.status, result.attempts) == ("completed", 3)
    assert len(home.core.providers.made) == 3
    assert len(home.core.ledger.rows) == 1
