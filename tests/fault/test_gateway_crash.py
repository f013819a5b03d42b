"""Gateways that are killed, frozen or told to stop: no accepted request is lost, none is paid for twice."""

import asyncio
from typing import Any

import aiohttp
import pytest

from infra.db.engine import Database
from tests.support.requests import ask, chat, ended, put_model, put_router
from tests.support.world import World, eventually


async def _terminal_rows(world: World, request_id: str) -> int:
    async with Database(world.database_url) as database:
        query = "SELECT count(*) AS rows FROM requests WHERE request_id = %s"
        row = await database.fetch_one(query, (request_id,))
        return int(row["rows"]) if row else 0


async def _slow_router(client: aiohttp.ClientSession, latency_ms: int) -> str:
    await put_model(client, f"slow{latency_ms}", f"small+latency{latency_ms}")
    await put_router(client, f"slow{latency_ms}", [f"slow{latency_ms}"])
    return f"slow{latency_ms}"


async def _called(world: World, tag: str) -> dict[str, Any] | None:
    counts = await world.provider_calls(tag)
    return counts if counts["total"] else None


async def _under_way(world: World, tag: str) -> bool:
    """Whether the provider was called and the ledger has the request; before that nobody has promised it anything."""
    if not await _called(world, tag):
        return False
    async with Database(world.database_url) as database:
        return await database.fetch_one("SELECT 1 FROM open_requests WHERE request_id = %s", (tag,)) is not None


async def test_killed_during_the_call_a_restarted_gateway_finishes(world: World) -> None:
    """kill -9 in mid-call: after a restart the workflow finishes, with one row, and the answer can be collected."""
    tag = "kill-during-call"
    with world.gateway() as first:
        async with world.client(first) as client:
            router = await _slow_router(client, 2_000)
            asking = asyncio.create_task(ask(client, router, chat(tag), x_request_id=tag))
            await eventually(lambda: _under_way(world, tag), "the request is not under way")
            first.kill()
            with pytest.raises(aiohttp.ClientError):
                await asking
    with world.gateway() as second:
        async with world.client(second) as client:
            view = await eventually(lambda: ended(client, tag), "the request was lost", 90.0)
            assert view["status"] == "completed"
            assert view["answer"]["choices"]
            assert "recovered" in view["degraded"]
    assert await _terminal_rows(world, tag) == 1
    counts = await world.provider_calls(tag)
    assert counts["total"] == 2
    assert counts["completed"] == 1


async def test_same_idempotency_key_collects_the_answer_after_a_crash(world: World) -> None:
    """A client that repeats its keyed request at the restarted gateway gets the one answer, not a second request."""
    tag = "kill-with-key"
    with world.gateway() as first:
        async with world.client(first) as client:
            router = await _slow_router(client, 2_000)
            asking = asyncio.create_task(ask(client, router, chat(tag), idempotency_key=tag))
            await eventually(lambda: _called(world, tag), "the provider was not called")
            first.kill()
            with pytest.raises(aiohttp.ClientError):
                await asking
    with world.gateway() as second:
        async with world.client(second) as client:
            status, answer = await ask(client, router, chat(tag), idempotency_key=tag)
            again, repeated = await ask(client, router, chat(tag), idempotency_key=tag)
    assert status == again == 200
    assert answer["id"] == repeated["id"]
    assert await _terminal_rows(world, answer["modelpilot"]["requestId"]) == 1
    assert (await world.provider_calls(tag))["completed"] == 1


async def test_killed_after_the_answer_nothing_is_called_again(world: World) -> None:
    """A recorded outcome is never paid for twice: the next gateway finds it in the ledger."""
    tag = "kill-after-answer"
    with world.gateway() as first:
        async with world.client(first) as client:
            status, _ = await ask(client, "demo", chat(tag), idempotency_key=tag)
            first.kill()
    assert status == 200
    with world.gateway() as second:
        async with world.client(second) as client:
            status, answer = await ask(client, "demo", chat(tag), idempotency_key=tag)
    assert status == 200
    assert (await world.provider_calls(tag))["total"] == 1
    assert await _terminal_rows(world, answer["modelpilot"]["requestId"]) == 1


async def test_dead_origin_is_taken_over(world: World) -> None:
    """The origin is killed in mid-call: a worker finishes, with one row, and every gateway has the answer."""
    tag = "taken-over"
    with world.two_gateways() as (origin, other):
        async with world.client(origin) as client, world.client(other) as spectator:
            router = await _slow_router(client, 2_000)
            asking = asyncio.create_task(ask(client, router, chat(tag), x_request_id=tag))
            await eventually(lambda: _under_way(world, tag), "the request is not under way")
            origin.kill()
            with pytest.raises(aiohttp.ClientError):
                await asking
            view = await eventually(lambda: ended(spectator, tag), "nobody took over", 90.0)
    assert view["status"] == "completed"
    assert await _terminal_rows(world, tag) == 1
    counts = await world.provider_calls(tag)
    assert counts["total"] == 2
    assert counts["maxConcurrent"] == 1


async def test_sigterm_finishes_what_is_in_flight(world: World) -> None:
    """SIGTERM: readiness fails, the request in flight is answered, the process exits 0."""
    tag = "drained"
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            router = await _slow_router(client, 2_000)
            asking = asyncio.create_task(ask(client, router, chat(tag)))
            await eventually(lambda: _called(world, tag), "the provider was not called")
            gateway.process.terminate()

            async def unready() -> bool:
                async with client.get("/readyz") as answer:
                    return answer.status == 503

            await eventually(unready, "readiness does not fail while draining")
            status, answer = await asking
        assert status == 200
        assert gateway.process.wait(40.0) == 0
    assert await _terminal_rows(world, answer["modelpilot"]["requestId"]) == 1


async def test_request_longer_than_the_drain_is_taken_over(world: World) -> None:
    """SIGTERM with a request that outlasts the drain: the process ends in time, another one finishes the request."""
    tag = "longer-than-the-drain"
    with world.two_gateways(DRAIN_SECONDS="1") as (origin, other):
        async with world.client(origin) as client, world.client(other) as spectator:
            router = await _slow_router(client, 10_000)
            asking = asyncio.create_task(ask(client, router, chat(tag), x_request_id=tag))
            await eventually(lambda: _under_way(world, tag), "the request is not under way")
            assert origin.terminate(30.0) == 0
            await asyncio.gather(asking, return_exceptions=True)
            view = await eventually(lambda: ended(spectator, tag), "nobody took over", 90.0)
    assert view["status"] == "completed"
    assert "recovered" in view["degraded"]
    assert await _terminal_rows(world, tag) == 1


async def test_fifty_concurrent_requests_with_one_key_are_one(world: World) -> None:
    """The same Idempotency-Key fifty times at once, at two gateways: one workflow, one provider call, one answer."""
    tag = "fifty-at-once"
    with world.two_gateways() as (one, two):
        async with world.client(one) as first, world.client(two) as second:
            router = await _slow_router(first, 1_000)
            asked = [
                ask(client, router, chat(tag), idempotency_key=tag) for client in (first, second) for _ in range(25)
            ]
            answers = await asyncio.gather(*asked)
    assert {status for status, _ in answers} == {200}
    assert len({answer["id"] for _, answer in answers}) == 1
    assert (await world.provider_calls(tag))["total"] == 1


async def test_client_that_leaves_cancels_the_provider_call(world: World) -> None:
    """A disconnect in mid-call cancels the upstream call; the row says so and keeps the cost."""
    tag = "left-early"
    with world.gateway() as gateway:
        async with world.client(gateway) as client, world.client(gateway) as spectator:
            router = await _slow_router(client, 8_000)
            asking = asyncio.create_task(ask(client, router, chat(tag), x_request_id=tag))
            await eventually(lambda: _called(world, tag), "the provider was not called")
            asking.cancel()
            view = await eventually(lambda: ended(spectator, tag), "no terminal row")
    assert view["status"] == "canceled"
    assert (await world.provider_calls(tag))["disconnected"] == 1
