"""Leases: who is alive and who makes a provider call, by the database's clock."""

import asyncio
import secrets

import pytest

from infra.db.engine import Database
from infra.db.requests.housekeeping import Housekeeping
from infra.db.requests.leases import PostgresLeases
from infra.db.requests.ledger import PostgresLedger
from modelpilot.requests.records import RequestKey
from tests.support.samples import attempt, record

KEY = RequestKey("alice", "r1")


@pytest.fixture
async def leases(database: Database) -> PostgresLeases:
    leases = PostgresLeases(database, lease_seconds=15.0)
    for instance in ("a", "b", "c"):
        await leases.register(instance, "localhost")
    await _settle(database)
    return leases


async def _settle(database: Database) -> None:
    """All have been alive for long."""
    await database.fetch_all("UPDATE instances SET kept_since = kept_since - interval '1 hour'")


async def _kill(database: Database, instance: str, hours: float = 1.0) -> None:
    await database.fetch_all(
        "UPDATE instances SET heartbeat_at = heartbeat_at - make_interval(secs => %s * 3600) WHERE id = %s",
        (hours, instance),
    )


async def _believes_dead(leases: PostgresLeases, instance: str, other: str) -> bool:
    """Whether `instance` may make a call that is the other one's as long as that lives."""
    return await leases.claim_call(RequestKey("alice", secrets.token_hex(8)), 0, instance, owner=other)


async def test_an_instance_lives_by_its_heartbeat(database: Database, leases: PostgresLeases) -> None:
    """Registered is alive, silent is dead, heard again is alive, unknown is dead."""
    assert not await _believes_dead(leases, "b", "a")
    assert await leases.heartbeat("a")
    await _kill(database, "a")
    assert await _believes_dead(leases, "b", "a")
    assert not await leases.heartbeat("a"), "the instance learns that its lease had lapsed"
    assert not await _believes_dead(leases, "b", "a")
    assert await _believes_dead(leases, "b", "unknown")
    assert not await leases.heartbeat("unknown")


async def test_release_is_immediate(leases: PostgresLeases) -> None:
    """A clean shutdown makes nobody wait for the lease, and frees its claims."""
    await leases.release("a")
    assert await leases.claim_call(KEY, 0, "b", owner="a")
    await leases.release("b")
    assert await leases.claim_call(KEY, 0, "c", owner="a")


async def test_nobody_takes_over_from_the_living(leases: PostgresLeases) -> None:
    """While the owner's heartbeat is fresh, nobody else makes its call, and nothing is written."""
    assert not await leases.claim_call(KEY, 0, "b", owner="a")
    await leases.release("a")
    assert await leases.claim_call(KEY, 0, "c", owner="a")


async def test_the_owner_may_claim_its_own(leases: PostgresLeases) -> None:
    """However often it asks."""
    assert await leases.claim_call(KEY, 1, "a", owner="a")
    assert await leases.claim_call(KEY, 1, "a")


async def test_the_dead_are_taken_over_once(database: Database, leases: PostgresLeases) -> None:
    """The first claimant makes the call, until it is dead as well."""
    await _kill(database, "a")
    assert await leases.claim_call(KEY, 0, "b", owner="a")
    assert not await leases.claim_call(KEY, 0, "c", owner="a")
    assert await leases.claim_call(KEY, 0, "b", owner="a")
    await _kill(database, "b")
    assert await leases.claim_call(KEY, 0, "c", owner="a")


async def test_after_an_outage_nobody_is_believed_dead(database: Database, leases: PostgresLeases) -> None:
    """While the database was away nobody could renew its lease; whoever comes back first must not take over."""
    for instance in ("a", "b"):
        await _kill(database, instance)
    assert not await leases.heartbeat("b")
    assert not await leases.claim_call(KEY, 0, "b", owner="a")
    assert not await _believes_dead(leases, "b", "a")
    await database.fetch_all("UPDATE instances SET kept_since = kept_since - interval '20 s' WHERE id = 'b'")
    assert await leases.heartbeat("b"), "its lease goes on without a gap"
    assert await leases.claim_call(KEY, 0, "b", owner="a")


async def test_a_fresh_process_believes_nobody_dead(database: Database, leases: PostgresLeases) -> None:
    """It has not been there for long enough to know."""
    await leases.register("fresh", "localhost")
    await _kill(database, "a")
    assert not await leases.claim_call(KEY, 0, "fresh", owner="a")
    assert not await leases.claim_call(KEY, 0, "never registered", owner="a")


async def test_each_call_is_claimed_by_itself(leases: PostgresLeases) -> None:
    """Fallback attempts may be made by one process after the other."""
    assert await leases.claim_call(KEY, 100, "a")
    assert not await leases.claim_call(KEY, 100, "b")
    assert await leases.claim_call(KEY, 101, "b")


async def test_what_is_recorded_is_not_called_for(
    database: Database, leases: PostgresLeases, ledger: PostgresLedger
) -> None:
    """A call that was made, and any call of a request that has ended."""
    ended = record(request_id="ended")
    await ledger.record(ended)
    assert not await leases.claim_call(ended.key, 100, "a")
    await ledger.record_attempts(KEY, (attempt(seq=100),))
    assert not await leases.claim_call(KEY, 100, "a")
    assert await leases.claim_call(KEY, 101, "a")


async def test_of_concurrent_claims_one_wins(database: Database, leases: PostgresLeases) -> None:
    """However many race, one makes the call."""
    await _kill(database, "a")
    for number in range(20):
        await leases.register(f"i{number}", "localhost")
    await _settle(database)
    for round_number in range(5):
        key = RequestKey("alice", f"race{round_number}")
        claimed = await asyncio.gather(*(leases.claim_call(key, 0, f"i{number}", "a") for number in range(20)))
        assert sum(claimed) == 1


async def test_tenants_are_apart(database: Database, leases: PostgresLeases) -> None:
    """The same request id of another owner is another request."""
    await _kill(database, "a")
    assert await leases.claim_call(KEY, 0, "b", owner="a")
    assert await leases.claim_call(RequestKey("bob", "r1"), 0, "c", owner="a")


async def test_housekeeping_forgets_the_long_dead(database: Database, leases: PostgresLeases) -> None:
    """Old instances and claims go; the living and the recent stay."""
    await _kill(database, "a", hours=48.0)
    await _kill(database, "b", hours=1.0)
    await leases.claim_call(KEY, 0, "c", owner="a")
    await database.fetch_all("UPDATE claims SET claimed_at = claimed_at - interval '8 days'")
    swept = await Housekeeping(database).sweep()
    assert (swept.instances, swept.claims, swept.total) == (1, 1, 2)
    assert {row["id"] for row in await database.fetch_all("SELECT id FROM instances")} == {"b", "c"}
