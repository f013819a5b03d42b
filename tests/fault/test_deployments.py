"""A model with several deployments and keys: the load is shared, and what is ill is left alone unnoticed by clients."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aiohttp
import pytest

from infra.db.engine import SyncPool
from infra.db.metrics.site import PostgresSiteReader
from infra.local import ports
from modelpilot.metrics.requests import NO_FILTER, AnalyticsScope
from modelpilot.metrics.use import DeploymentState
from tests.support.requests import chat, put_model, put_router, request_view
from tests.support.world import Gateway, World, eventually

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    """One gateway, so that what one test taught it about deployments must not disturb the next one."""
    with world.gateway() as running:
        yield running


async def put_provider(client: aiohttp.ClientSession, provider: str, base_url: str, **fields: Any) -> None:
    """An OpenAI-compatible provider."""
    body = {"kind": "openai", "baseUrl": base_url, **fields}
    async with client.put(f"/api/providers/{provider}", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def set_up(client: aiohttp.ClientSession, name: str, *deployments: dict[str, Any]) -> None:
    """A model, and a router of nothing but it: whatever fails visibly fails for the client as well."""
    await put_model(client, f"my/{name}", name, deployments=list(deployments))
    await put_router(client, name, [f"my/{name}"], sameModelRetries=1)


def deployment(name: str, provider: str, weight: float = 1.0) -> dict[str, Any]:
    """A deployment whose calls the simulator counts by themselves."""
    return {"provider": provider, "providerModel": f"{name}-{provider}+latency5", "weight": weight}


async def two_of(world: World, client: aiohttp.ClientSession, name: str, weight: float = 1.0) -> None:
    """A model at two providers, `east` with this weight and `west` with 1."""
    for provider in ("east", "west"):
        await put_provider(client, provider, f"{world.simulator_url}/v1")
    await set_up(client, name, deployment(name, "east", weight), deployment(name, "west"))


async def ask(client: aiohttp.ClientSession, name: str) -> Answer:
    """The `modelpilot` object of an answer; there has to be one."""
    async with client.post(f"/router/{name}", json=chat(name)) as answer:
        body = await answer.json()
        assert answer.status == 200, body
        details: Answer = body["modelpilot"]
        return details


async def calls(world: World, name: str) -> dict[str, int]:
    """The simulator's count of calls by provider."""
    found = (await world.provider_calls(name))["byModel"]
    return {model.partition("+")[0].rpartition("-")[2]: count for model, count in found.items()}


async def health(client: aiohttp.ClientSession, name: str) -> dict[str, Answer]:
    """The model's deployments as the gateway sees them, by their label."""
    async with client.get("/api/health/deployments") as answer:
        items = (await answer.json())["items"]
    return {item["deployment"]: item for item in items if item["model"] == f"my/{name}"}


async def switch(world: World, model: str, faults: dict[str, Any]) -> None:
    """Faults for a model of the simulator."""
    async with (
        aiohttp.ClientSession(world.simulator_url) as session,
        session.post("/_sim/faults", json={"model": model, "faults": faults}) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def test_the_load_is_shared_by_weight(world: World, gateway: Gateway) -> None:
    """3 to 1 over 120 requests, each called once and recorded with where it went."""
    async with world.client(gateway) as client:
        await two_of(world, client, "shared", weight=3.0)
        answers: list[Answer] = []
        for _ in range(15):  # few at a time: this is about shares, and the machine may be busy
            answers += await asyncio.gather(*(ask(client, "shared") for _ in range(8)))
        counted = await calls(world, "shared")
        assert sum(counted.values()) == 120
        assert 72 <= counted["east"] <= 108  # 90 expected; four standard deviations are 19
        used = [answer["attempts"][0]["deployment"] for answer in answers]
        assert used.count("east/shared-east+latency5") == counted["east"]
        assert [answer["provider"] for answer in answers] == [name.partition("/")[0] for name in used]
        view = await request_view(client, answers[0]["requestId"])
        assert view is not None
        assert view["attempts"][0]["deployment"] == used[0]


async def test_a_rate_limited_deployment_is_skipped(world: World, gateway: Gateway) -> None:
    """429 with Retry-After: one call finds out, the other deployment serves, and no client sees an error."""
    async with world.client(gateway) as client:
        await two_of(world, client, "limited", weight=3.0)
        await switch(world, "limited-east", {"status": 429, "retryafter": "120"})
        answers = [await ask(client, "limited") for _ in range(20)]
        assert await calls(world, "limited") == {"east": 1, "west": 20}
        (first,) = [answer for answer in answers if len(answer["attempts"]) == 2]
        assert [(each["provider"], each["httpStatus"]) for each in first["attempts"]] == [("east", 429), ("west", None)]
        seen = await health(client, "limited")
        assert "rate limited, next try in" in seen["east/limited-east+latency5"]["excludedBecause"]
        assert seen["west/limited-west+latency5"]["excludedBecause"] is None


async def test_what_is_skipped_is_seen_and_may_be_reset(world: World, gateway: Gateway) -> None:
    """By everybody who reads the provider or the site, not only by the gateway that skips it."""
    async with world.client(gateway) as client:
        await two_of(world, client, "seen", weight=3.0)
        await switch(world, "seen-east", {"status": 429, "retryafter": "120"})

        async def skipped() -> list[dict[str, Any]]:
            await ask(client, "seen")
            async with client.get("/api/providers/east") as answer:
                found: list[dict[str, Any]] = (await answer.json())["skipped"]
            return [one for one in found if one["model"] == "my/seen"]

        (told,) = await eventually(skipped, "the provider does not say that it rests")
        assert (told["state"], told["gateways"], told["openSince"]) == ("closed", 1, None)
        assert "rate limited" in told["because"]
        assert "my/seen" in {one.model for one in await asyncio.to_thread(states_on_site, world)}
        await switch(world, "seen-east", {})
        async with client.post("/api/health/deployments/reset", json={"provider": "east"}) as answer:
            assert answer.status == 200

        async def forgotten() -> bool:
            return not await skipped()

        await eventually(forgotten, "the provider still says that it rests")


def states_on_site(world: World) -> tuple[DeploymentState, ...]:
    """What the page of models and providers is told."""
    with closing(SyncPool(world.database_url)) as pool:
        scope = AnalyticsScope("admin", time.time() - 60.0, time.time())
        return PostgresSiteReader(pool).models(scope, NO_FILTER, 60).states


async def test_a_dead_deployment_opens_its_own_breaker(world: World, gateway: Gateway) -> None:
    """Nobody listens at one of the two: after five calls it is left alone, and the other one never noticed."""
    async with world.client(gateway) as client:
        await put_provider(client, "west", f"{world.simulator_url}/v1")
        await put_provider(client, "nowhere", f"http://127.0.0.1:{ports.free_port()}/v1")
        await set_up(client, "dead", deployment("dead", "nowhere", 3.0), deployment("dead", "west"))
        attempts = 0

        async def opened() -> bool:
            nonlocal attempts
            attempts += len((await ask(client, "dead"))["attempts"])
            seen = (await health(client, "dead")).get("nowhere/dead-nowhere+latency5")
            return seen is not None and seen["state"] != "closed"

        await eventually(opened, "the dead deployment's breaker does not open")
        served = (await calls(world, "dead"))["west"]
        assert attempts == served + 5
        assert (await health(client, "dead"))["west/dead-west+latency5"]["state"] == "closed"
        # One may be the probe, should the breaker's first five seconds be over by then.
        assert sum([len((await ask(client, "dead"))["attempts"]) for _ in range(5)]) <= 6


async def test_a_refused_key_leaves_the_other_key(world: World, gateway: Gateway) -> None:
    """The provider refuses the first of two keys: the second one serves, at once and from then on alone."""
    async with world.client(gateway) as client:
        keys = ["sk-revoked-one", "sk-valid-two"]
        await put_provider(client, "keyed", f"{world.simulator_url}/v1", apiKeys=keys)
        await set_up(client, "keys", deployment("keys", "keyed"))
        await switch(world, "keys-keyed", {"refusekey": keys[0]})
        used: list[list[str]] = []

        async def refused() -> bool:
            answer = await ask(client, "keys")
            used.append([attempt["deployment"] for attempt in answer["attempts"]])
            async with client.get("/api/health/deployments") as listing:
                return "keyed#1" in (await listing.json())["refusedKeys"]

        await eventually(refused, "the refused key is never noticed")
        used += [[each["deployment"] for each in (await ask(client, "keys"))["attempts"]] for _ in range(10)]
        first, second = "keyed/keys-keyed+latency5#1", "keyed/keys-keyed+latency5#2"
        assert [tried for tried in used if len(tried) > 1] == [[first, second]]
        assert used[-10:] == [[second]] * 10
        counts = (await world.provider_calls("keys"))["byStatus"]
        assert counts["401"] == 1
        async with client.get("/api/providers/keyed") as answer:
            text = await answer.text()
        assert not any(key in text for key in keys)
        assert '"keyCount":2' in text.replace(" ", "")


async def test_embeddings_go_to_another_deployment_too(world: World, gateway: Gateway) -> None:
    """The dead deployment costs nobody an answer, and its breaker learns of it."""
    async with world.client(gateway) as client:
        await put_provider(client, "nowhere", f"http://127.0.0.1:{ports.free_port()}/v1")
        places = [{"provider": "nowhere"}, {"provider": "simulator", "priority": 1}]
        await put_model(client, "my/embed", "embed", deployments=places, capabilities=["embeddings"])
        body = {"model": "my/embed", "input": "two places"}
        for _ in range(5):
            async with client.post("/v1/embeddings", json=body) as answer:
                details = (await answer.json())["modelpilot"]
                assert answer.status == 200
            assert [attempt["deployment"] for attempt in details["attempts"]] == ["nowhere/embed", "simulator/embed"]
            assert (details["selectedModel"], details["provider"]) == ("my/embed", "simulator")
        assert (await health(client, "embed"))["nowhere/embed"]["state"] != "closed"
        async with client.post("/v1/embeddings", json=body) as answer:
            assert (await answer.json())["modelpilot"]["provider"] == "simulator"


async def test_a_router_s_short_limits_leave_others_alone(world: World, gateway: Gateway) -> None:
    """Six requests give a model up after 100 ms; that opens no breaker, and a patient router gets its answers."""
    async with world.client(gateway) as client:
        await put_model(client, "my/slow", "slow+firsttoken1500")
        await put_router(client, "hasty", ["my/slow"], timeouts={"firstTokenMs": 100})
        await put_router(client, "patient", ["my/slow"])
        for _ in range(6):
            async with client.post("/router/hasty", json=chat("hasty")) as answer:
                assert answer.status == 504, await answer.text()
        (seen,) = (await health(client, "slow")).values()
        assert (seen["state"], seen["failures"], seen["excludedBecause"]) == ("closed", 0, None)
        assert (await ask(client, "patient"))["selectedModel"] == "my/slow"


async def limited_router(client: aiohttp.ClientSession, name: str) -> None:
    """A router whose cheapest model, with one deployment, is asked to rest for 30 s; the other one serves."""
    cheap = {"costPerInputToken": 1e-9, "costPerOutputToken": 1e-9}
    await put_model(client, f"my/{name}-a", f"{name}-a+429+retryafter30", **cheap)
    await put_model(client, f"my/{name}-b", f"{name}-b+latency5")
    await put_router(client, name, [f"my/{name}-a", f"my/{name}-b"])


async def statuses(client: aiohttp.ClientSession, name: str) -> list[int]:
    """Of six requests at once."""

    async def one() -> int:
        async with client.post(f"/router/{name}", json=chat(name)) as answer:
            return answer.status

    return await asyncio.gather(*(one() for _ in range(6)))


async def test_a_model_with_one_deployment_rests_as_asked(world: World, gateway: Gateway) -> None:
    """429 with Retry-After 30: one call, then the router's other model serves."""
    async with world.client(gateway) as client:
        await limited_router(client, "resting")
        async with client.post("/router/resting", json=chat("resting")) as answer:
            assert (answer.status, answer.headers["retry-after"]) == (502, "30")
        assert [(await ask(client, "resting"))["selectedModel"] for _ in range(8)] == ["my/resting-b"] * 8
        assert (await world.provider_calls("resting"))["byStatus"] == {"429": 1, "200": 8}


async def test_nobody_else_is_sent_to_a_resting_model(world: World, gateway: Gateway) -> None:
    """Of requests at once each may find out by itself; after their answers none calls the model."""
    async with world.client(gateway) as client:
        await limited_router(client, "crowded")
        found_out = (await statuses(client, "crowded")).count(502)
        assert found_out >= 1
        assert await statuses(client, "crowded") == [200] * 6
        assert (await world.provider_calls("crowded"))["byStatus"]["429"] == found_out


async def test_a_reset_reaches_every_gateway(world: World, gateway: Gateway) -> None:
    """Two gateways let a model rest; one is told to forget that, and both call it again."""
    with world.gateway() as second:
        async with world.client(gateway) as here, world.client(second) as there:
            await limited_router(here, "reset")
            for client in (here, there):
                assert 502 in await statuses(client, "reset")
                assert not await well(client, "reset")
            async with here.post("/api/health/deployments/reset", json={"model": "my/reset-a"}) as answer:
                assert await answer.json() == {"provider": None, "model": "my/reset-a", "skipped": 1}
            assert await well(here, "reset")

            async def forgotten() -> bool:
                return await well(there, "reset")

            await eventually(forgotten, "the other gateway never hears of the reset")
            assert 502 in await statuses(there, "reset")


async def well(client: aiohttp.ClientSession, name: str) -> bool:
    """Whether the gateway has nothing against the first model."""
    return all(item["excludedBecause"] is None for item in (await health(client, f"{name}-a")).values())
