"""One installation with one gateway for all end-to-end tests."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.support.world import Gateway, World, running_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The installation's servers."""
    with running_world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="session")
def gateway(world: World) -> Iterator[Gateway]:
    """A gateway of it, shared: tests use routers and prompts of their own."""
    with world.gateway() as running:
        yield running


@pytest.fixture
async def client(world: World, gateway: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client with the admin key."""
    async with world.client(gateway) as session:
        yield session
