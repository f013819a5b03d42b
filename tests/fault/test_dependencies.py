"""Temporal, Postgres or Milvus hang under a running gateway: requests are served as far as they can be, or refused."""

from functools import partial
from typing import Any

import aiohttp

from infra.db.engine import Database
from tests.support.requests import ask, chat, ended, put_model, put_router
from tests.support.world import World, closed, eventually


async def _ready_status(client: aiohttp.ClientSession) -> tuple[int, str]:
    async with client.get("/readyz") as answer:
        return answer.status, (await answer.json())["status"]


async def _gets_its_workflow(world: World, answer: dict[str, Any]) -> None:
    request_id = answer["modelpilot"]["requestId"]
    await eventually(partial(closed, world, request_id), "no closed workflow", 90.0)


async def _has_its_row(client: aiohttp.ClientSession, request_id: str) -> None:
    view = await eventually(partial(ended, client, request_id), "the row was lost", 90.0)
    assert view["status"] == "completed"


async def test_temporal_away_changes_nothing_for_clients(world: World) -> None:
    """Postgres accepts; once Temporal is back, every request gets its one workflow."""
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            with world.frozen("temporal"):

                async def noticed() -> bool:
                    return await _ready_status(client) == (200, "degraded")

                await eventually(noticed, "readiness does not notice")
                answers = [await ask(client, "demo", chat(f"temporal-away {number}")) for number in range(5)]
                assert {status for status, _ in answers} == {200}
                assert all(answer["modelpilot"]["degraded"] == [] for _, answer in answers)
            for _, answer in answers:
                await _gets_its_workflow(world, answer)
    assert (await world.provider_calls("temporal-away"))["total"] == 5


async def test_fallbacks_go_on_while_temporal_is_away(world: World) -> None:
    """The gateway makes the attempts itself and says so; the request has one row and one workflow."""
    tag = "fallback-without-temporal"
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            await put_model(client, "broken", "small+503")
            await put_router(
                client,
                "falls-back",
                ["broken"],
                fallbackStrategy={"fallbackModels": ["sim/small"], "retryAttempts": 2},
                sameModelRetries=0,
            )
            with world.frozen("temporal"):

                async def noticed() -> bool:
                    return await _ready_status(client) == (200, "degraded")

                await eventually(noticed, "readiness does not notice")
                status, answer = await ask(client, "falls-back", chat(tag))
                assert status == 200
                assert answer["modelpilot"]["degraded"] == ["temporal"]
                assert answer["modelpilot"]["selectedModel"] == "sim/small"
            await _gets_its_workflow(world, answer)
    assert (await world.provider_calls(tag))["total"] == 2


async def test_both_stores_away_is_a_503_before_anything_is_spent(world: World) -> None:
    """Nobody could accept the request: refused at once with Retry-After, and service resumes."""
    tag = "both-away"
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            await ask(client, "demo", chat("warm the caches"))
            with world.frozen("temporal"), world.frozen("postgres"):

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
    """Temporal accepts, and the row is written when Postgres is back. Requests with a name are refused."""
    with world.gateway() as gateway:
        async with world.client(gateway) as client:
            await ask(client, "demo", chat("warm the caches"))
            with world.frozen("postgres"):
                status, answer = await ask(client, "demo", chat("Nobody writes this down"))
                assert status == 200
                assert answer["modelpilot"]["degraded"] == ["postgres"]

                async def noticed() -> bool:
                    return await _ready_status(client) == (200, "degraded")

                await eventually(noticed, "readiness does not notice")
                keyed, refusal = await ask(client, "demo", chat("keyed"), idempotency_key="while-away")
                assert keyed == 503
                assert refusal["error"]["code"] == "dependency_unavailable"
                status, quick = await ask(client, "demo", chat("Nor this"))
                assert status == 200
            for each in (answer, quick):
                await _has_its_row(client, each["modelpilot"]["requestId"])
                await _gets_its_workflow(world, each)
    assert (await world.provider_calls("Nobody writes this down"))["total"] == 1


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
