"""Snapshots are loaded once, and dropped at once."""

import asyncio
from dataclasses import replace

import pytest

from activities.requests.caches import MAXIMUM_ENTRIES, RouterCache, SingleFlightCache
from modelpilot.errors import DependencyUnavailable, NotFound
from modelpilot.routing.aliases import KnownAliases, Target
from tests.support.core import routed
from tests.support.fakes import FakeConfiguration
from tests.support.processes import until


class Clock:
    """Time that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Loads:
    """A loader whose loads wait for `gate`."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> int:
        self.count += 1
        mine = self.count
        await self.gate.wait()
        return mine


async def test_five_hundred_concurrent_gets_load_once() -> None:
    """A cold cache under load asks the database once."""
    source = FakeConfiguration(routed())
    source.gate.clear()
    cache = RouterCache(source)
    waiting = [asyncio.create_task(cache.router_snapshot("alice", "support")) for _ in range(500)]
    await until(lambda: source.loads > 0)
    source.gate.set()
    shots = await asyncio.gather(*waiting)
    assert source.loads == 1
    assert all(shot is shots[0] for shot in shots)


async def test_a_value_lives_for_its_time() -> None:
    """Five minutes by default, then it is loaded again."""
    clock, load = Clock(), Loads()
    cache: SingleFlightCache[str, int] = SingleFlightCache(300.0, clock)
    assert await cache.get("k", load) == 1
    clock.now = 299.9
    assert await cache.get("k", load) == 1
    clock.now = 300.0
    assert await cache.get("k", load) == 2


async def test_a_load_under_way_is_not_reused_after_a_change() -> None:
    """Whoever asks after the change gets the new state, although the old load has not answered yet."""
    source = FakeConfiguration(routed())
    source.gate.clear()
    cache = RouterCache(source)
    early = asyncio.create_task(cache.router_snapshot("alice", "support"))
    await until(lambda: source.loads > 0)
    source.shot = replace(source.shot, version=4)
    cache.drop("router", "alice", "support")
    late = asyncio.create_task(cache.router_snapshot("alice", "support"))
    await until(lambda: source.loads > 1)
    source.gate.set()
    assert (await early).version == 3
    assert (await late).version == 4
    assert (await cache.router_snapshot("alice", "support")).version == 4


@pytest.mark.parametrize(
    ("kind", "user", "subject", "router_loads", "endpoint_loads"),
    [
        ("router", "alice", "support", 1, 0),
        ("router", "alice", "other", 0, 0),
        ("router", "bob", "support", 0, 0),
        ("model", "alice", "sim/a", 1, 1),
        ("provider", "alice", "simulator", 1, 1),
        ("provider", "bob", "simulator", 0, 0),
        ("model", "", "sim/a", 1, 1),
        (None, "", "", 1, 1),
    ],
)
async def test_a_change_drops_what_it_touches(
    kind: str | None, user: str, subject: str, router_loads: int, endpoint_loads: int
) -> None:
    """Its own entry, everything of an owner whose models or providers change, everything when in doubt."""
    source = FakeConfiguration(routed())
    cache = RouterCache(source)
    await cache.router_snapshot("alice", "support")
    await cache.endpoint("alice", "simulator")
    cache.drop(kind, user, subject)
    before = source.loads
    await cache.router_snapshot("alice", "support")
    assert source.loads - before == router_loads
    await cache.endpoint("alice", "simulator")
    assert source.loads - before == router_loads + endpoint_loads


async def test_tenants_do_not_share_entries() -> None:
    """The same router id of another owner is another router."""
    cache = RouterCache(FakeConfiguration(routed()))
    assert (await cache.router_snapshot("alice", "support")).user_id == "alice"
    assert (await cache.router_snapshot("bob", "support")).user_id == "bob"
    assert (await cache.direct_snapshot("bob", "support")).user_id == "bob"


@pytest.mark.parametrize(
    ("kind", "user", "dropped"),
    [
        ("router", "alice", True),
        ("model", "alice", True),
        ("router", "bob", False),
        ("model", "", True),
        (None, "", True),
    ],
)
async def test_aliases_are_remembered_until_they_may_have_changed(kind: str | None, user: str, dropped: bool) -> None:
    """With any router or model of their owner."""
    source = FakeConfiguration(routed())
    cache = RouterCache(source)
    known = await cache.aliases("alice")
    source.known_aliases = KnownAliases({"new": Target("router", "support")})
    assert await cache.aliases("alice") is known
    cache.drop(kind, user, "support")
    assert (await cache.aliases("alice") is source.known_aliases) == dropped


async def test_failures_are_not_remembered() -> None:
    """An outage, or a router that was not there yet, is asked for again."""
    source = FakeConfiguration(routed())
    cache = RouterCache(source)
    source.failure = DependencyUnavailable("away")
    with pytest.raises(DependencyUnavailable):
        await cache.router_snapshot("alice", "support")
    source.failure = None
    with pytest.raises(NotFound):
        await cache.router_snapshot("alice", "unknown")
    assert (await cache.router_snapshot("alice", "support")).version == 3


async def test_a_waiter_that_leaves_does_not_stop_the_load() -> None:
    """One client's disconnect is not the failure of all who wait for the same router."""
    load = Loads()
    load.gate.clear()
    cache: SingleFlightCache[str, int] = SingleFlightCache(300.0)
    leaving = asyncio.create_task(cache.get("k", load))
    staying = asyncio.create_task(cache.get("k", load))
    await until(lambda: load.count > 0)
    leaving.cancel()
    load.gate.set()
    assert await staying == 1
    assert leaving.cancelled()


async def test_the_memory_is_bounded() -> None:
    """Ten thousand entries, then the oldest go."""
    load = Loads()
    cache: SingleFlightCache[int, int] = SingleFlightCache(300.0)
    for key in range(MAXIMUM_ENTRIES + 1):
        await cache.get(key, load)
    assert await cache.get(1, load) == 2
    assert await cache.get(0, load) == MAXIMUM_ENTRIES + 2


async def test_a_value_dropped_during_an_outage_is_not_believed() -> None:
    """The last value stands in while the database is away, but not for whoever asked before it was dropped."""
    clock, gate = Clock(), asyncio.Event()
    cache: SingleFlightCache[str, int] = SingleFlightCache(5.0, clock, stale_if_error_s=300.0, retry_s=1.0)

    async def fail() -> int:
        await gate.wait()
        raise DependencyUnavailable("away")

    await cache.get("k", Loads())
    clock.now = 5.0
    gate.set()
    assert await cache.get("k", fail) == 1
    gate.clear()
    clock.now = 6.0
    early = asyncio.create_task(cache.get("k", fail))
    await asyncio.sleep(0)
    cache.drop(lambda key, value: True)
    gate.set()
    with pytest.raises(DependencyUnavailable):
        await early
