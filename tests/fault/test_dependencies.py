"""Temporal, Postgres or Milvus hang under a running gateway: requests are served as far as they can be, or refused."""

from typing import Any

import aiohttp

from infra.db.engine import Database
from tests.support.requests import ask, chat, ended, put_router
from tests.support.world import World, eventually


async def _ready_status(client: aiohttp.ClientSession) -> tuple[int, str]:
    async with client.get("/readyz") as answer:
        return answer.status, (await answer.json())["status"]


async def test_temporal_away_is_a_503_before_anything_is_spent(world: World) -> None:
    """Strict requests are refused with Retry-After while Temporal hangs; history survives and service resumes."""
    tag = "temporal-away"
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            _, before = await ask(client, "demo", chat("before"))
            with world.frozen("temporal"):

                async def unready() -> bool:
                    return await _ready_status(client) == (503, "unready")

                await eventually(unready, "readiness does not notice")
                async with client.post("/router/demo", json=chat(tag)) as answer:
                    assert answer.status == 503
                    assert int(answer.headers["retry-after"]) >= 1
                    assert (await answer.json())["error"]["code"] == "dependency_unavailable"
            assert (await world.provider_calls(tag))["total"] == 0

            async def answered() -> bool:
                return (await ask(client, "demo", chat("after")))[0] == 200

            await eventually(answered, "service did not resume")
            view = await eventually(lambda: ended(client, before["modelpilot"]["requestId"]), "history is gone")
            assert view["status"] == "completed"


async def test_milvus_away_degrades_and_nothing_is_lost(world: World) -> None:
    """Without Milvus a request is decided by priors, says so, and its point waits in the outbox."""
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            await put_router(client, "no-milvus", ["sim/small"])
            with world.frozen("milvus"):
                status, answer = await ask(client, "no-milvus", chat("No memory"))
                assert status == 200
                assert answer["modelpilot"]["degraded"] == ["vector"]
                assert (await _ready_status(client)) == (200, "degraded")
                async with Database(world.database_url) as database:

                    async def waiting() -> list[Any]:
                        return await database.fetch_all("SELECT 1 FROM outbox")

                    await eventually(waiting, "no point in the outbox")


async def test_postgres_away_loses_no_row(world: World) -> None:
    """An answer does not wait for Postgres; its row is written when that is back. Keyed requests are refused."""
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            await ask(client, "demo", chat("warm the caches"))
            with world.frozen("postgres"):
                status, answer = await ask(client, "demo", chat("Nobody writes this down"))
                assert status == 200
                keyed, refusal = await ask(client, "demo", chat("keyed"), idempotency_key="while-away")
                assert keyed == 503
                assert refusal["error"]["code"] == "dependency_unavailable"
                assert (await _ready_status(client))[0] == 503
            view = await eventually(lambda: ended(client, answer["modelpilot"]["requestId"]), "the row was lost", 90.0)
            assert view["status"] == "completed"


async def test_changed_router_is_effective_at_once_at_every_gateway(world: World) -> None:
    """The five-minute cache is dropped on change, also in processes that did not make the change."""
    with world.two_gateways() as (one, two):
        async with world.client(one) as first, world.client(two) as second:
            await put_router(first, "changing", ["sim/small"])
            for client in (first, second):
                _, answer = await ask(client, "changing", chat("Which one?"))
                assert answer["modelpilot"]["selectedModel"] == "sim/small"
            await put_router(first, "changing", ["sim/large"])
            _, answer = await ask(first, "changing", chat("Which one?"))
            assert answer["modelpilot"]["selectedModel"] == "sim/large"

            async def changed() -> bool:
                _, answer = await ask(second, "changing", chat("Which one?"))
                return bool(answer["modelpilot"]["selectedModel"] == "sim/large")

            await eventually(changed, "the other gateway still uses the old router", 5.0)
