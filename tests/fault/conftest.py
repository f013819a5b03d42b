"""An installation whose gateways and servers a test may kill; one per module, since Temporal's queues are shared."""

from collections.abc import Iterator

import pytest

from tests.support.world import World, running_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The installation's servers; gateways are started by the tests."""
    with running_world(tmp_path_factory.mktemp("world")) as running:
        yield running
