"""Leases: who is alive and who owns a request, by the database's clock."""

import asyncio

import pytest

from infra.db.engine import Database
from infra.db.requests.housekeeping import Housekeeping
from infra.db.requests.leases import PostgresLeases
from modelpilot.requests.records import RequestKey

KEY = RequestKey("alice", "r1")


@pytest.fixture
async def leases(database: Database) -> PostgresLeases:
    leases = PostgresLeases(database, lease_seconds=15.0)
    for instance in ("a", "b", "c"):
        await leases.register(instance, "localhost")
    return leases


async def _kill(database: Database, instance: str, hours: float = 1.0) -> None:
    await database.fetch_all(
        "UPDATE instances SET heartbeat_at = heartbeat_at - make_interval(secs => %s * 3600) WHERE id = %s",
        (hours, instance),
    )


async def test_an_instance_lives_by_its_heartbeat(database: Database, leases: PostgresLeases) -> None:
    """Registered is alive, silent is dead, heard again is alive, unknown is dead."""
    assert await leases.is_alive("a")
    assert await leases.heartbeat("a")
    await _kill(database, "a")
    assert not await leases.is_alive("a")
    assert not await leases.heartbeat("a"), "the instance learns that its lease had lapsed"
    assert await leases.is_alive("a")
    assert not await leases.is_alive("unknown")
    assert not await leases.heartbeat("unknown")


async def test_release_is_immediate(leases: PostgresLeases) -> None:
    """A clean shutdown makes nobody wait for the lease, and frees its claims."""
    await leases.release("a")
    assert not await leases.is_alive("a")
    assert await leases.claim(KEY, "b", previous="a") == "b"
    await leases.release("b")
    assert await leases.claim(KEY, "c", previous="a") == "c"


async def test_nobody_takes_over_from_the_living(leases: PostgresLeases) -> None:
    """While the owner's heartbeat is fresh, a claim names the owner and writes nothing."""
    assert await leases.claim(KEY, "b", previous="a") == "a"
    await leases.release("a")
    assert await leases.claim(KEY, "c", previous="a") == "c"


async def test_the_owner_may_claim_its_own(leases: PostgresLeases) -> None:
    """The instance named by the request holds it, however often it asks."""
    assert await leases.claim(KEY, "a", previous="a") == "a"
    assert await leases.claim(KEY, "a", previous="a") == "a"


async def test_the_dead_are_taken_over_once(database: Database, leases: PostgresLeases) -> None:
    """The first claimant holds the request; the second one learns who; a repeat of the first succeeds."""
    await _kill(database, "a")
    assert await leases.claim(KEY, "b", previous="a") == "b"
    assert await leases.claim(KEY, "c", previous="a") == "b"
    assert await leases.claim(KEY, "b", previous="a") == "b"
    await _kill(database, "b")
    assert await leases.claim(KEY, "c", previous="a") == "c"


async def test_a_claim_outlives_the_return_of_the_previous_owner(database: Database, leases: PostgresLeases) -> None:
    """An owner that was only frozen does not get the request back from a living successor."""
    await _kill(database, "a")
    assert await leases.claim(KEY, "b", previous="a") == "b"
    await leases.heartbeat("a")
    assert await leases.claim(KEY, "a", previous="a") == "b"
    assert await leases.claim(KEY, "c", previous="a") == "b"


async def test_of_concurrent_claims_one_wins(database: Database, leases: PostgresLeases) -> None:
    """However many race, all agree on one living owner."""
    await _kill(database, "a")
    for number in range(20):
        await leases.register(f"i{number}", "localhost")
    for round_number in range(5):
        key = RequestKey("alice", f"race{round_number}")
        holders = await asyncio.gather(*(leases.claim(key, f"i{number}", "a") for number in range(20)))
        assert len(set(holders)) == 1
        assert holders[0] != "a"


async def test_tenants_are_apart(database: Database, leases: PostgresLeases) -> None:
    """The same request id of another owner is another request."""
    await _kill(database, "a")
    assert await leases.claim(KEY, "b", previous="a") == "b"
    assert await leases.claim(RequestKey("bob", "r1"), "c", previous="a") == "c"


async def test_housekeeping_forgets_the_long_dead(database: Database, leases: PostgresLeases) -> None:
    """Old instances and claims go; the living and the recent stay."""
    await _kill(database, "a", hours=48.0)
    await _kill(database, "b", hours=1.0)
    await leases.claim(KEY, "c", previous="a")
    await database.fetch_all("UPDATE claims SET claimed_at = claimed_at - interval '8 days'")
    swept = await Housekeeping(database).sweep()
    assert (swept.instances, swept.claims, swept.total) == (1, 1, 2)
    assert await leases.is_alive("c")
