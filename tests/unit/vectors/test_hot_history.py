"""The in-memory history: exact search, bounded size, freshness, and what happens while Milvus is slow or away."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.vectors.hot_copy import HotCopy
from infra.vectors.hot_history import HotHistory
from infra.vectors.rows import HistoryRow, fold, new_row, with_quality
from infra.vectors.schema import primary_key, scope_key
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, Vector

DIMENSION = 8
ALICE, BOB = HistoryScope("alice", "r"), HistoryScope("bob", "r")


def unit(seed: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def point(name: str, scope: HistoryScope = ALICE, **changes: object) -> HistoryPoint:
    made = HistoryPoint(name, scope, "m", f"request-{name}", unit(0), 100.0, 1.0, None, None, 10, 20, "chat", 0.0)
    return replace(made, **changes)  # type: ignore[arg-type]


class FakeStore:
    """Keeps rows in a dictionary; can be held up (`gate`), fail (`broken`), and counts what it is asked."""

    dimension = DIMENSION

    def __init__(self) -> None:
        self.rows: dict[str, HistoryRow] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.queries = 0
        self.scans: list[float] = []
        self.now = 1_000.0

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        self.queries += 1
        if self.broken:
            raise DependencyUnavailable("away")
        copy = HotCopy(DIMENSION, 1_000)
        copy.put([row for row in self.rows.values() if row.scope == scope_key(scope)])
        return copy.search(vector, limit)

    async def store(self, point: HistoryPoint) -> None:
        if self.broken:
            raise DependencyUnavailable("away")
        key = primary_key(point.scope, point.point_id, point.model)
        self.rows[key] = fold(self.rows.get(key), point, self.now)

    async def update_quality(self, scope: HistoryScope, updates: Sequence[QualityUpdate]) -> int:
        for update in updates:
            key = primary_key(scope, update.point_id, update.model)
            self.rows[key] = with_quality(self.rows[key], update, self.now)
        return len(updates)

    async def delete_scope(self, scope: HistoryScope) -> None:
        self.rows = {key: row for key, row in self.rows.items() if row.scope != scope_key(scope)}

    async def newest_since(self, scope: HistoryScope, rows: int) -> float:
        stamps = sorted(row.timestamp for row in self.rows.values() if row.scope == scope_key(scope))
        return stamps[-rows] if len(stamps) > rows else 0.0

    async def scan(
        self, scope: HistoryScope, *, updated_since: float = 0.0, min_timestamp: float = 0.0
    ) -> AsyncIterator[list[HistoryRow]]:
        self.scans.append(updated_since)
        await self.gate.wait()
        if self.broken:
            raise DependencyUnavailable("away")
        for row in list(self.rows.values()):
            if row.scope == scope_key(scope) and row.timestamp >= min_timestamp:
                yield [row]


async def answer(hot: HotHistory, store: FakeStore, scope: HistoryScope) -> tuple[Neighbours, str]:
    """The neighbours, and who searched: a copy in memory, or Milvus."""
    before = store.queries
    found = await hot.query(scope, unit(0), 5)
    return found, "memory" if store.queries == before else "milvus"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
async def hot(store: FakeStore) -> AsyncIterator[HotHistory]:
    made = HotHistory(store)
    yield made
    await made.close()


@settings(max_examples=50)
@given(rows=st.integers(1, 200), limit=st.integers(1, 250), seed=st.integers(0, 1_000))
def test_search_is_exact(rows: int, limit: int, seed: int) -> None:
    """The same neighbours in the same order as sorting everything."""
    copy, vectors = HotCopy(DIMENSION, 1_000), [unit(seed + index) for index in range(rows)]
    copy.put([new_row(point(f"p{index}", embedding=vector), 0.0) for index, vector in enumerate(vectors)])
    found = copy.search(unit(seed + 5_000), limit)
    expected = np.sort(np.stack(vectors) @ unit(seed + 5_000))[::-1][:limit]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-6)
    assert len(found.model) == len(found.quality) == len(found.timestamp) == min(rows, limit)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.none() | st.floats(0, 1)), min_size=1, max_size=30))
def test_folding_gives_the_means(outcomes: list[tuple[float, float | None]]) -> None:
    """Running means equal the means, and unknown quality counts for nothing."""
    row: HistoryRow | None = None
    for index, (latency_ms, quality) in enumerate(outcomes):
        row = fold(row, point("p", latency_ms=latency_ms, quality=quality, request_id=str(index)), 0.0)
    assert row is not None
    known = [quality for _, quality in outcomes if quality is not None]
    assert row.request_count == len(outcomes)
    assert row.quality_count == len(known)
    assert row.latency_ms == pytest.approx(np.mean([latency_ms for latency_ms, _ in outcomes]), abs=1e-6)
    assert not known or row.quality == pytest.approx(np.mean(known), abs=1e-9)


def test_unknown_numbers_are_nan_and_a_zero_query_is_similar_to_nothing() -> None:
    """Estimators must be able to tell unknown from zero, and empty text is no error."""
    copy = HotCopy(DIMENSION, 10)
    copy.put([new_row(point("p", cost_usd=None, quality=0.0), 0.0)])
    found = copy.search(np.zeros(DIMENSION, np.float32), 5)
    assert np.isnan(found.cost_usd[0])
    assert found.quality[0] == 0.0
    assert found.similarity.tolist() == [0.0]
    assert len(HotCopy(DIMENSION, 10).search(unit(0), 5)) == 0


def test_a_full_copy_keeps_the_newest() -> None:
    """The cap holds, the oldest row makes room, and an even older one does not come in."""
    copy = HotCopy(DIMENSION, 100)
    for index in np.random.default_rng(0).permutation(500):
        copy.put([new_row(point(f"p{index}", timestamp=float(index)), 0.0)])
    assert len(copy) == 100
    assert sorted(copy.search(unit(0), 100).timestamp) == list(range(400, 500))
    copy.put([new_row(point("p450", timestamp=450.0, latency_ms=7.0), 0.0)])
    assert len(copy) == 100
    assert 7.0 in copy.search(unit(0), 100).latency_ms


async def test_milvus_answers_until_the_copy_is_loaded(hot: HotHistory, store: FakeStore) -> None:
    """The first requests of a router do not wait for the copy; what is learnt meanwhile is not lost."""
    await store.store(point("p"))
    store.gate.clear()
    assert (await answer(hot, store, ALICE))[1] == "milvus"
    await asyncio.sleep(0)
    hot.learn(point("q"))
    assert (await answer(hot, store, ALICE))[1] == "milvus"
    store.gate.set()
    await hot.settled(ALICE)
    found, source = await answer(hot, store, ALICE)
    assert (sorted(found.request_ids), source) == (["request-p", "request-q"], "memory")
    assert len(store.scans) == 1


async def test_what_is_learnt_here_is_found_at_once(hot: HotHistory, store: FakeStore) -> None:
    """A repeated prompt sees its own last outcome, folded as Milvus folds it, which gets it from the outbox."""
    await hot.warm(ALICE)
    hot.learn(point("p", request_id="r1", latency_ms=100.0))
    hot.learn(point("p", request_id="r2", latency_ms=300.0))
    hot.learn(point("p", request_id="r2", latency_ms=300.0))
    found = await hot.query(ALICE, unit(0), 5)
    assert (found.request_ids, found.count.tolist(), found.latency_ms.tolist()) == (("r2",), [2.0], [200.0])
    assert store.rows == {}


async def test_copies_of_tenants_are_apart(hot: HotHistory) -> None:
    """The same router id of another owner is another copy."""
    await hot.warm(ALICE)
    await hot.warm(BOB)
    hot.learn(point("p", BOB))
    assert len(await hot.query(ALICE, unit(0), 5)) == 0
    assert len(await hot.query(BOB, unit(0), 5)) == 1


async def test_a_refresh_reads_only_what_is_new(store: FakeStore) -> None:
    """Other gateways' outcomes and revised qualities arrive without reading everything again."""
    hot = HotHistory(store, refresh_s=0.0)
    await hot.warm(ALICE)
    await store.store(point("others"))
    await hot.warm(ALICE)
    assert (await hot.query(ALICE, unit(0), 5)).request_ids == ("request-others",)
    await hot.update_quality(ALICE, [QualityUpdate("others", "m", 0.25)])
    await hot.warm(ALICE)
    assert (await hot.query(ALICE, unit(0), 5)).quality.tolist() == [0.25]
    assert store.scans[0] == 0.0
    assert min(store.scans[1:]) > 0.0
    await hot.close()


async def test_memory_outlives_milvus(store: FakeStore) -> None:
    """While Milvus is away a loaded router goes on; an unloaded one says so and tries again later."""
    hot = HotHistory(store, refresh_s=0.0)
    await store.store(point("p"))
    await hot.warm(ALICE)
    store.broken = True
    await hot.warm(ALICE)
    assert (await answer(hot, store, ALICE))[1] == "memory"
    hot.learn(point("q"))
    assert sorted((await hot.query(ALICE, unit(0), 5)).request_ids) == ["request-p", "request-q"]
    with pytest.raises(DependencyUnavailable):
        await hot.query(BOB, unit(0), 5)
    await hot.settled(BOB)
    store.broken = False
    await hot.warm(BOB)
    assert (await answer(hot, store, BOB))[1] == "memory"
    await hot.close()


async def test_all_copies_together_stay_within_memory(store: FakeStore) -> None:
    """The router unused for longest goes first, and comes back when it is used."""
    scopes = [HistoryScope("u", f"r{index}") for index in range(5)]
    for scope in scopes:
        for index in range(20):
            await store.store(point(f"p{index}", scope))
    one = HotHistory(store)
    await one.warm(scopes[0])
    size = one.stats()["bytes"]
    hot = HotHistory(store, max_bytes=3 * size)
    for scope in scopes:
        await hot.warm(scope)
    assert hot.stats() == {"routers": 3, "rows": 60, "bytes": 3 * size}
    assert (await answer(hot, store, scopes[4]))[1] == "memory"
    assert (await answer(hot, store, scopes[0]))[1] == "milvus"
    await hot.settled(scopes[0])
    assert (await answer(hot, store, scopes[0]))[1] == "memory"
    assert hot.stats()["routers"] == 3
    await one.close()
    await hot.close()


async def test_a_large_copy_is_searched_off_the_loop_and_capped(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest rows are loaded, and big products run on a thread with the same result."""
    threads: list[str] = []
    search = HotCopy.search

    def watched(copy: HotCopy, vector: Vector, limit: int) -> Neighbours:
        threads.append(threading.current_thread().name)
        return search(copy, vector, limit)

    monkeypatch.setattr(HotCopy, "search", watched)
    for index in range(860):
        await store.store(point(f"p{index}", timestamp=float(index)))
    hot = HotHistory(store, cap_rows=850, inline_numbers=850 * DIMENSION - 1)
    await hot.warm(ALICE)
    found = await hot.query(ALICE, unit(0), 860)
    assert (len(found), found.timestamp.min()) == (850, 10.0)
    assert threads[0].startswith("hot-history")
    await hot.close()


async def test_a_large_copy_gets_its_index(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its load, and where it has grown large by what was learnt since, with the next refresh."""
    built: list[int] = []
    monkeypatch.setattr(HotCopy, "build_index", lambda copy: built.append(len(copy)))
    hot = HotHistory(store, refresh_s=0.0)
    await store.store(point("p"))
    await hot.warm(ALICE)
    hot.learn(point("q"))
    await hot.warm(ALICE)
    assert built == [1, 2]
    await hot.close()


async def test_a_deleted_router_is_forgotten(hot: HotHistory) -> None:
    """A router made again under the same name starts without history."""
    await hot.warm(ALICE)
    hot.learn(point("p"))
    await hot.delete_scope(ALICE)
    assert len(await hot.query(ALICE, unit(0), 5)) == 0
    await hot.warm(ALICE)
    assert len(await hot.query(ALICE, unit(0), 5)) == 0


async def test_a_wrong_dimension_is_named(hot: HotHistory) -> None:
    """Never a silent product of unlike vectors."""
    with pytest.raises(EmbedderMismatch):
        await hot.query(ALICE, np.zeros(3, np.float32), 5)
    with pytest.raises(EmbedderMismatch):
        hot.learn(point("p", embedding=np.zeros(3, np.float32)))


async def test_what_was_in_flight_when_it_was_deleted_is_not_learnt() -> None:
    """A router of the same name, or one whose model was deleted, learns from what began later alone; other owners'
    copies stay."""
    for router in (ALICE.router_id, ""):
        store = FakeStore()
        hot = HotHistory(store)
        await hot.warm(BOB)
        hot.forget(ALICE.user_id, router)
        await hot.warm(ALICE)
        hot.learn(point("in-flight", begun_at=time.time() - 60.0))
        hot.learn(point("later", begun_at=time.time() + 60.0))
        hot.learn(point("theirs", BOB, begun_at=time.time() - 60.0))
        assert (await hot.query(ALICE, unit(0), 5)).request_ids == ("request-later",)
        assert (await hot.query(BOB, unit(0), 5)).request_ids == ("request-theirs",)
        await hot.close()
