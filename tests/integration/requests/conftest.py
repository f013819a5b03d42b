"""The ledger of these tests."""

from collections.abc import AsyncIterator

import pytest

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from tests.support.samples import keyring


@pytest.fixture
def keys() -> Keyring:
    """The keyring of the ledger."""
    return keyring()


@pytest.fixture
async def ledger(database: Database, keys: Keyring) -> AsyncIterator[PostgresLedger]:
    """A ledger with nothing in it."""
    ledger = PostgresLedger(database, keys)
    yield ledger
    await ledger.close()
