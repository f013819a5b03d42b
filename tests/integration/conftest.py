"""What several modules of these tests ask for."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from infra.db.engine import Database, SyncPool
from infra.providers.addresses import AddressRule
from infra.providers.clients import ProviderRegistry
from modelpilot.requests.records import HistoryScope


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """A database with today's schema and nothing in it."""
    async with Database(migrated_url) as opened:
        yield opened


@pytest.fixture
def pool(migrated_url: str) -> Iterator[SyncPool]:
    """A pool of the site's readers on such a database."""
    opened = SyncPool(migrated_url)
    yield opened
    opened.close()


@pytest.fixture
async def registry() -> AsyncIterator[ProviderRegistry]:
    """Provider clients that may call this machine."""
    async with ProviderRegistry(AddressRule.of(allow_internal=True)) as registry:
        yield registry


@pytest.fixture
def collection() -> str:
    """The name of a Milvus collection that is not there yet."""
    return f"history_{uuid4().hex}"


@pytest.fixture
def scope() -> HistoryScope:
    """A router of Alice's without history."""
    return HistoryScope("alice", f"router-{uuid4().hex[:8]}")
