"""kill -9 of a closer at every point of its work, and several of them at once: one row, one workflow, and no call for
an outcome that is recorded."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial

import pytest

from tests.support.crash_runs import PATIENCE_S, ask_in_vain, called, crash_router, crash_tag, is_whole
from tests.support.crashing import CLOSER
from tests.support.requests import ask, chat
from tests.support.world import World, closed, eventually, running_world, wait_until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with a worker; closers are the tests'."""
    with running_world(tmp_path_factory.mktemp("world"), attended=False) as running, running.role("worker"):
        yield running


# What the request does meanwhile: is over at once, runs for long, or is left by its gateway.
_CLOSER_REQUESTS = {
    "claimed, not started": "small+latency100",
    "started, not noted": "small+latency4000",
    "renewed, not noted": "small+latency25000",
    "noted, not handed over": None,
    "handed over": None,
    "completed, not marked": "small+latency100",
}


@pytest.mark.timeout(300)  # a task that nobody renews is handed on after 30 s
@pytest.mark.parametrize("point", CLOSER)
async def test_a_closer_dies(world: World, point: str) -> None:
    """The next one goes on from what the ledger and Temporal say."""
    tag, model = crash_tag("closer", point), _CLOSER_REQUESTS[point]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(world.client(stack.enter_context(world.gateway())))
        router = await crash_router(client, tag, model or "small+latency3000")
        with world.role("closer", crash=point) as dying:
            if model is None:
                leaving = stack.enter_context(world.gateway())
                left = await stack.enter_async_context(world.client(leaving))
                asking = asyncio.create_task(ask_in_vain(left, router, tag))
                await eventually(partial(called, world, tag), "the provider was not called")
                leaving.kill()
            else:
                asking = asyncio.create_task(ask_in_vain(client, router, tag))
            await asyncio.to_thread(wait_until, lambda: dying.process.poll() is not None, "it lives", PATIENCE_S)
        with world.role("closer"):
            await is_whole(world, client, tag, {1} if model else {2})
            await asking


async def test_two_gateways_and_two_closers_share_the_work(world: World) -> None:
    """Every request has one row and one workflow, whoever served and closed it."""
    tags = [f"shared-{number}" for number in range(60)]
    with world.role("closer"), world.role("closer"), world.two_gateways() as (one, two):
        async with world.client(one) as first, world.client(two) as second:
            router = await crash_router(first, "shared", "small+latency50")
            clients = [first, second] * 30
            asked = zip(clients, tags, strict=True)
            answers = await asyncio.gather(*(ask(each, router, chat(tag), x_request_id=tag) for each, tag in asked))
            assert {status for status, _ in answers} == {200}
            for tag in tags:
                await eventually(partial(closed, world, tag), "no closed workflow", PATIENCE_S)
    assert (await world.provider_calls("shared-"))["total"] == 60
