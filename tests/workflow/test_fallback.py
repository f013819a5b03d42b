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
from tests.support.routing_runs import accepted, fly, of_type, ordinary_steps, start, worker
from tests.support.routing_samples import plan, stream
from tests.support.saved_histories import connect
from workflows import policies

WAIT_S = 0.1


@pytest.fixture
async def client(temporal_address: str) -> Client:
    """A client with encryption."""
    return await connect(temporal_address)


@pytest.fixture
async def core(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    """One gateway with its worker, whose first model always fails; the backoff begins at a tenth of a second."""
    monkeypatch.setattr(retries, "INITIAL_WAIT_S", WAIT_S)
    gateway = Core()
    gateway.providers.will(A, [failure(http_status=503)])
    async with worker(client, gateway.activities()):
        yield gateway


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


async def test_the_first_fallback_answers_at_once(client: Client, core: Core) -> None:
    """One ordinary activity with the policy in its event, its first attempt immediate, and a readable summary."""
    work = accepted(plan(A, B))
    handle = await fly(client, core, work)
    result = await handle.result()
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 2)
    assert core.providers.models == ["a", "b"]
    history = await handle.fetch_history()
    assert ordinary_steps(history) == [("call_fallback", 1)]
    (scheduled,) = of_type(history, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
    policy = scheduled.activity_task_scheduled_event_attributes.retry_policy
    assert policy.initial_interval.ToTimedelta() == timedelta(seconds=WAIT_S)
    assert (policy.backoff_coefficient, policy.maximum_attempts) == (2.0, 3)
    assert policy.maximum_interval.ToTimedelta() == timedelta(seconds=60)
    summary = await client.data_converter.decode([scheduled.user_metadata.summary])
    assert summary == ["sim/a failed (server_error); falling back to sim/b"]
    attributes = {pair.key.name: pair.value for pair in (await handle.describe()).typed_search_attributes}
    assert (attributes["Model"], attributes["Outcome"]) == ("sim/b", "completed")


async def test_fallback_models_take_turns_and_waits_double(client: Client, core: Core) -> None:
    """Attempt i uses model i mod n; the waits before attempts 2 and 3 are at least the policy's and twice that."""
    core.providers.will(B, [failure()])
    core.providers.will(C, [failure()])
    began = timed(core)
    work = accepted(plan(A, B, C, retry_attempts=4))
    handle = await fly(client, core, work)
    result = await handle.result()
    assert (result.status, result.model, result.attempts) == ("failed", "sim/c", 5)
    assert core.providers.models == ["a", "b", "c", "b", "c"]
    waits = gaps(began)
    assert waits[1] >= WAIT_S
    assert waits[2] >= 2 * WAIT_S
    assert waits[3] >= 4 * WAIT_S
    assert ordinary_steps(await handle.fetch_history()) == [("call_fallback", 4)]


async def test_every_attempt_is_in_the_row_and_paid(client: Client, core: Core) -> None:
    """Failed attempts count with what they had generated; sequence numbers tell the phases apart."""
    core.providers.will(B, [*stream(tokens=None)[:2], failure("stream_cut")], stream())
    work = accepted(plan(A, B))
    await (await fly(client, core, work)).result()
    row = core.ledger.rows[work.key]
    assert [attempt.seq for attempt in row.outcome.attempts] == [0, 100, 101]
    assert [attempt.status for attempt in row.outcome.attempts] == ["error", "error", "ok"]
    cut = row.outcome.attempts[1].cost_usd
    assert cut
    assert row.outcome.cost_usd == pytest.approx(COST_USD + cut)
    assert row.fallback_used
    assert len(core.ledger.rows) == 1


async def test_what_no_retry_mends_ends_the_fallback(client: Client, core: Core) -> None:
    """A refusal of the request itself is returned as the outcome, not retried."""
    core.providers.will(B, [failure("content_filter", Remedy.GIVE_UP, http_status=400)])
    work = accepted(plan(A, B, C))
    handle = await fly(client, core, work)
    result = await handle.result()
    assert (result.status, result.error_code) == ("failed", "content_filter")
    assert ordinary_steps(await handle.fetch_history()) == [("call_fallback", 1)]
    assert core.providers.models == ["a", "b"]


@pytest.mark.parametrize(("plan_of_two", "least_s"), [(plan(A, B), 0.6), (plan(A, B, C), WAIT_S)])
async def test_retry_after_counts_for_the_same_model_only(
    client: Client, core: Core, plan_of_two: CallPlan, least_s: float
) -> None:
    """The provider's own wait overrides the backoff where the next model is the same; another one is asked sooner."""
    wait_s = 0.6 if least_s == 0.6 else 50.0  # the test's own timeout would notice fifty seconds
    core.providers.will(B, [failure("rate_limited", http_status=429, retry_after_s=wait_s)], stream())
    began = timed(core)
    result = await asyncio.wait_for((await fly(client, core, accepted(plan_of_two))).result(), 30.0)
    assert result.status == "completed"
    assert gaps(began)[1] >= least_s


async def test_no_fallback_models_means_no_fallback(client: Client, core: Core) -> None:
    """The failed outcome is the end, without an ordinary activity."""
    handle = await fly(client, core, accepted(plan(A)))
    assert (await handle.result()).status == "failed"
    assert ordinary_steps(await handle.fetch_history()) == []


async def test_canceling_ends_the_fallback_call(client: Client, core: Core) -> None:
    """Canceled during a fallback: the upstream call is closed, one canceled row with all that was spent."""
    core.providers.will(B, [*stream()[:2], asyncio.Event()])
    work = accepted(plan(A, B))
    handle = await fly(client, core, work)
    await until(lambda: core.providers.models == ["a", "b"])
    await handle.cancel()
    result = await handle.result()
    assert (result.status, result.attempts) == ("canceled", 2)
    assert core.providers.made[1].closed
    assert core.ledger.rows[work.key].outcome.cost_usd


async def test_canceling_between_two_attempts_calls_nothing_more(
    client: Client, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canceled during the wait: no further call, and the failed attempt's cost is in the canceled row."""
    monkeypatch.setattr(retries, "INITIAL_WAIT_S", 30.0)
    core.providers.will(B, [*stream(tokens=None)[:2], failure("stream_cut")])
    work = accepted(plan(A, B))
    handle = await fly(client, core, work)
    await until(lambda: 100 in core.ledger.attempts.get(work.key, {}))
    await handle.cancel()
    assert (await asyncio.wait_for(handle.result(), 20.0)).status == "canceled"
    row = core.ledger.rows[work.key]
    assert [attempt.seq for attempt in row.outcome.attempts] == [0, 100]
    assert row.outcome.cost_usd
    assert core.providers.models == ["a", "b"]


async def test_a_fallback_in_another_process_ends_the_request_here(client: Client) -> None:
    """Owner and fallback are two gateways: one row, and the owner's entry learns the outcome without a long wait."""
    owner = Core()
    owner.providers.will(A, [failure()])
    other = Core(like=owner, instance="gw-2")
    mixed = [step for step in owner.activities() if step.__name__ != "call_fallback"]
    work = accepted(plan(A, B))
    async with worker(client, [*mixed, other.provider_steps.call_fallback]):
        handle = await fly(client, owner, work)
        result = await asyncio.wait_for(handle.result(), 20.0)
    flight = owner.registry.find(work.key)
    assert flight is not None
    assert (result.status, (await flight.final).model) == ("completed", "sim/b")
    assert len(owner.ledger.rows) == 1
    assert owner.ledger.rows[work.key].fallback_used


async def test_a_recovery_goes_on_with_the_fallback(client: Client) -> None:
    """The owner died after the failed first phase was in the ledger: the failed model is not called again."""
    first = Core()
    first.providers.will(A, [failure()])
    work = accepted(plan(A, B))
    flight = first.flight(work)
    first.controller.launch(flight)
    await flight.first
    second = Core(like=first, instance="gw-2")
    first.leases.alive.discard("gw-1")
    async with worker(client, second.activities()):
        result = await (await start(client, work)).result()
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 2)
    assert first.providers.models == ["a", "b"]


async def test_a_rolling_restart_cancels_no_fallback(client: Client) -> None:
    """The worker ends during a fallback call; the next one makes another attempt, and the row has both."""
    first = Core()
    first.providers.will(A, [failure()])
    first.providers.will(B, [*stream()[:2], asyncio.Event()], stream())
    work = accepted(plan(A, B))
    async with worker(client, first.activities()):
        handle = await fly(client, first, work)
        await until(lambda: first.providers.models == ["a", "b"])
    second = Core(like=first, instance="gw-2")
    first.leases.alive.discard("gw-1")
    async with worker(client, second.activities()):
        result = await asyncio.wait_for(handle.result(), 40.0)
    assert (result.status, result.model, result.attempts) == ("completed", "sim/b", 3)
    assert first.providers.made[1].closed
    (row,) = first.ledger.rows.values()
    assert [attempt.status for attempt in row.outcome.attempts] == ["error", "canceled", "ok"]
