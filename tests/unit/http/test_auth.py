"""Authentication: what is cached, for how long, and what happens while the database is away."""

import asyncio
from collections.abc import Callable

import pytest

from api.http.auth import CachedAuthenticator
from modelpilot.errors import AuthenticationFailed, DependencyUnavailable
from modelpilot.management.resources import ApiKeyChange, NewApiKey, StoredApiKey
from modelpilot.requests.records import Principal
from tests.support.management_fakes import FakeKeys, secret_of

INJECTIONS = [
    "' OR 1=1 --", "mp_' OR '1'='1", "mp_" + "0" * 63, "mp_" + "0" * 65, "mp_" + "G" * 64, "MP_" + "a" * 64,
    "mp_" + "a" * 64 + "\n", "mp_" + "a" * 63 + "'", "", " ", "mp_", "\u0661" * 67, "x" * 8_000,
]  # fmt: skip


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def make(keys: FakeKeys, monotonic: Callable[[], float], wall: Callable[[], float]) -> CachedAuthenticator:
    return CachedAuthenticator(keys, ttl_seconds=5.0, monotonic=monotonic, wall_clock=wall)


async def test_good_key_costs_one_query_per_ttl() -> None:
    """The hot path does not ask the database for every request, but does again after the TTL."""
    keys, clock = FakeKeys(), Clock()
    secret, auth = keys.add("a"), make(keys, clock, clock)
    for _ in range(3):
        assert (await auth.authenticate(secret)).api_key_id == "key-a"
    assert keys.queries == 1
    assert keys.touched == ["key-a", "key-a"]
    clock.now += 5.0
    await auth.authenticate(secret)
    assert keys.queries == 2


@pytest.mark.parametrize("presented", INJECTIONS)
async def test_bad_format_costs_no_query(presented: str) -> None:
    """Garbage, SQL included, is refused before any query."""
    keys = FakeKeys()
    with pytest.raises(AuthenticationFailed):
        await make(keys, Clock(), Clock()).authenticate(presented)
    assert keys.queries == 0


async def test_refusals_are_not_remembered() -> None:
    """A key that was unknown a moment ago works as soon as it exists."""
    keys = FakeKeys()
    auth = make(keys, Clock(), Clock())
    with pytest.raises(AuthenticationFailed):
        await auth.authenticate(secret_of("late"))
    keys.add("late")
    assert (await auth.authenticate(secret_of("late"))).user_id == "alice"


async def test_expiry_holds_inside_the_ttl() -> None:
    """A cached key stops working at its expiry, not at the end of the TTL."""
    keys, wall = FakeKeys(), Clock()
    secret = keys.add("a", expires_at=4e9)
    wall.now = 4e9 - 1
    auth = make(keys, Clock(), wall)
    await auth.authenticate(secret)
    wall.now = 4e9
    with pytest.raises(AuthenticationFailed):
        await auth.authenticate(secret)
    assert keys.queries == 1


@pytest.mark.parametrize("which", ["key-a", None])
async def test_drop_makes_a_revocation_effective_at_once(which: str | None) -> None:
    """After `drop` the next request asks the database again."""
    keys = FakeKeys()
    secret, auth = keys.add("a"), make(keys, Clock(), Clock())
    await auth.authenticate(secret)
    await keys.update("alice", "key-a", ApiKeyChange(active=False))
    auth.drop("key-of-somebody-else")
    assert (await auth.authenticate(secret)).user_id == "alice"
    auth.drop(which)
    with pytest.raises(AuthenticationFailed):
        await auth.authenticate(secret)


async def test_known_keys_go_on_while_the_database_is_away() -> None:
    """Postgres restarting must not refuse those who were just served; others learn that it is our fault."""
    keys, clock = FakeKeys(), Clock()
    secret, other, auth = keys.add("a"), keys.add("b"), make(keys, clock, clock)
    await auth.authenticate(secret)
    keys.down = True
    clock.now += 60.0
    assert (await auth.authenticate(secret)).user_id == "alice"
    with pytest.raises(DependencyUnavailable):
        await auth.authenticate(other)
    asked = keys.queries
    assert (await auth.authenticate(secret)).user_id == "alice"
    assert keys.queries == asked  # not at every request: each would wait for the pool's timeout
    clock.now += 300.0
    with pytest.raises(DependencyUnavailable):
        await auth.authenticate(secret)


class SlowKeys(FakeKeys):
    """Lookups that wait until they are let go, having read before."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.gate = asyncio.Event(), asyncio.Event()

    async def authenticate(self, secret: str) -> Principal | None:
        principal = await super().authenticate(secret)
        self.started.set()
        await self.gate.wait()
        return principal


async def test_concurrent_requests_share_one_lookup_and_survive_a_cancel() -> None:
    """A cold cache under load asks once, and a client that leaves does not take the others with it."""
    keys = SlowKeys()
    secret, auth = keys.add("a"), make(keys, Clock(), Clock())
    first, *others = [asyncio.create_task(auth.authenticate(secret)) for _ in range(50)]
    await keys.started.wait()
    first.cancel()
    keys.gate.set()
    assert {(await task).user_id for task in others} == {"alice"}
    assert keys.queries == 1


async def test_a_lookup_that_began_before_a_drop_is_not_kept() -> None:
    """A revocation cannot be undone by a lookup that had read the old state."""
    keys = SlowKeys()
    secret, auth = keys.add("a"), make(keys, Clock(), Clock())
    early = asyncio.create_task(auth.authenticate(secret))
    await keys.started.wait()
    await keys.update("alice", "key-a", ApiKeyChange(active=False))
    auth.drop("key-a")
    keys.gate.set()
    await early
    with pytest.raises(AuthenticationFailed):
        await auth.authenticate(secret)


class VanishingKeys(FakeKeys):
    """The key is deleted between the two queries of a lookup."""

    async def get(self, user_id: str, key_id: str) -> StoredApiKey:
        self.rows.pop(key_id, None)
        return await super().get(user_id, key_id)


async def test_a_key_deleted_during_its_lookup_is_refused() -> None:
    """No window in which a deleted key is admitted."""
    keys = VanishingKeys()
    _, secret = await keys.create("alice", NewApiKey())
    with pytest.raises(AuthenticationFailed):
        await make(keys, Clock(), Clock()).authenticate(secret)
