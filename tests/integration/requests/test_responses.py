"""What is kept of Responses requests, on a real Postgres."""

import asyncio

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.learning.stored_texts import StoredTexts
from infra.db.requests.housekeeping import Housekeeping
from infra.db.requests.responses import PostgresResponses
from modelpilot.requests.records import RequestKey
from modelpilot.wire.responses_chain import KeptResponse
from tests.support.samples import table_text

ALICE = RequestKey("alice", "r1")
KEPT = KeptResponse({"model": "router/a"}, 1_700_000_000, [{"role": "user", "content": "lone \ud800"}], [{"id": "x"}])


async def test_what_is_kept_comes_back_to_its_owner(database: Database, keys: Keyring) -> None:
    """Whole, the newer of two, encrypted at rest, and never to another tenant."""
    responses = PostgresResponses(database, keys)
    await responses.put(ALICE, KeptResponse({}, 0))
    await responses.put(ALICE, KEPT)
    assert await responses.find("alice", ["r1", "r2"]) == {"r1": KEPT}
    assert await responses.find("bob", ["r1"]) == {}
    await asyncio.gather(*(responses.put(RequestKey("alice", f"r{each % 3}"), KEPT) for each in range(10)))
    assert (await responses.find("alice", ["r0", "r1", "r2"])).keys() == {"r0", "r1", "r2"}
    large = KeptResponse({"x": "y" * 200_000}, 0)
    await responses.put(ALICE, large)
    assert await responses.find("alice", ["r1"]) == {"r1": large}
    assert b"router/a".hex() not in table_text(database.url, "payloads")


async def test_it_goes_with_time_and_with_all_other_text(database: Database, keys: Keyring) -> None:
    """Expired rows are invisible at once and swept later; deleting a request's text deletes this as well."""
    await PostgresResponses(database, keys, retention_hours=-1.0).put(ALICE, KEPT)
    responses = PostgresResponses(database, keys)
    assert await responses.find("alice", ["r1"]) == {}
    assert (await Housekeeping(database).sweep()).payloads == 1
    await responses.put(ALICE, KEPT)
    assert await StoredTexts(database, keys).delete(ALICE)
    assert await responses.find("alice", ["r1"]) == {}
