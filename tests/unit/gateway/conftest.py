"""A gateway whose router has nothing to fall back to."""

import pytest

from tests.support.core import Core, routed


@pytest.fixture
def core() -> Core:
    """The gateway."""
    return Core(routed())
