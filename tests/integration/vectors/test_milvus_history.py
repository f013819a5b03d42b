"""The vector history on a real Milvus Lite server: folding, tenancy, paging, a copy in memory."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest

from infra.vectors.hot_history import HotHistory
from infra.vectors.milvus import MilvusHistory
from infra.vectors.schema import partition_of
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch, InvalidRequest
from modelpilot.requests.records import HistoryScope, QualityUpdate
from tests.support.samples import new_history, point, unit

NASTY = ['a"b', "a' or 1==1 or '", '") or (scope != "', "a\\", "é漢🙂", "a/b", "%", "\ud800", "nul\x00"]


@pytest.fixture
async def history(milvus_uri: str, collection: str) -> AsyncIterator[MilvusHistory]:
    made = new_history(milvus_uri, collection)
    await made.open()
    yield made
    await made.close()


async def test_a_router_without_history_has_no_neighbours(history: MilvusHistory, scope: HistoryScope) -> None:
    """The first request of a router is no error."""
    assert len(await history.query(scope, unit(0), 10)) == 0
    assert await history.count(scope) == 0
    assert [page async for page in history.scan(scope)] == []
    await history.delete_scope(scope)


async def test_neighbours_come_nearest_first_with_unknowns_as_nan(history: MilvusHistory, scope: HistoryScope) -> None:
    """Order and alignment of the arrays, and that unknown is never zero."""
    near = ((unit(0) * 3 + unit(1)) / np.sqrt(10)).astype(np.float32)
    await asyncio.gather(
        history.store(point(scope, "same", "r1", quality=0.75, output_tokens=7)),
        history.store(point(scope, "near", "r2", embedding=near, cost_usd=None, model="sim/large")),
        history.store(point(scope, "far", "r3", embedding=unit(2), latency_ms=5.0)),
    )
    found = await history.query(scope, unit(0), 2)
    assert found.request_ids == ("r1", "r2")
    assert [found.models[model] for model in found.model] == ["sim/small", "sim/large"]
    np.testing.assert_allclose(found.similarity, [1.0, 3 / np.sqrt(10)], atol=1e-5)
    np.testing.assert_allclose(found.quality, [0.75, np.nan])
    np.testing.assert_allclose(found.cost_usd, [0.5, np.nan])
    assert found.output_tokens[0] == 7
    assert found.timestamp[0] == 1_000.0


async def test_a_repeat_updates_its_point(history: MilvusHistory, scope: HistoryScope) -> None:
    """The same prompt and model is one row with counts and running means; another model is another row."""
    await history.store(point(scope, "p", "r1", latency_ms=100.0, quality=None, cost_usd=1.0, timestamp=1.0))
    await history.store(point(scope, "p", "r2", latency_ms=200.0, quality=0.4, cost_usd=None, timestamp=2.0))
    await history.store(point(scope, "p", "r3", latency_ms=600.0, quality=0.8, cost_usd=2.0, timestamp=3.0))
    await history.store(point(scope, "p", "r4", model="sim/large"))
    assert await history.count(scope) == 2
    found = await history.query(scope, unit(0), 10)
    index = found.model.tolist().index(found.models.index("sim/small"))
    assert found.request_ids[index] == "r3"
    assert found.count[index] == 3
    assert found.latency_ms[index] == pytest.approx(300.0)
    assert found.quality[index] == pytest.approx(0.6)
    assert found.cost_usd[index] == pytest.approx(1.5)
    assert found.timestamp[index] == 3.0


async def test_storing_the_same_request_again_changes_nothing(history: MilvusHistory, scope: HistoryScope) -> None:
    """A replayed outbox row or a repeated activity does not count twice."""
    for _ in range(3):
        await history.store(point(scope, "p", "r1"))
    await asyncio.gather(*(history.store(point(scope, "q", "r2")) for _ in range(3)))
    found = await history.query(scope, unit(0), 10)
    assert found.count.tolist() == [1.0, 1.0]


async def test_concurrent_stores_of_one_point_all_count(history: MilvusHistory, scope: HistoryScope) -> None:
    """A group with the same point many times folds them one after the other, across groups as well."""
    await asyncio.gather(*(history.store(point(scope, "p", f"r{index}", latency_ms=index)) for index in range(450)))
    found = await history.query(scope, unit(0), 10)
    assert found.count.tolist() == [450.0]
    assert found.latency_ms[0] == pytest.approx(224.5)


async def test_no_tenant_sees_or_touches_another(history: MilvusHistory, scope: HistoryScope) -> None:
    """Same router id, same point id, same vector: still two worlds, in every method."""
    other = HistoryScope("bob", scope.router_id)
    await history.store(point(scope, "p", "alices", quality=0.1))
    await history.store(point(other, "p", "bobs", quality=0.9))
    assert (await history.query(scope, unit(0), 100)).request_ids == ("alices",)
    assert (await history.query(other, unit(0), 100)).request_ids == ("bobs",)
    assert [row.request_id async for page in history.scan(scope) for row in page] == ["alices"]
    await history.update_quality(scope, [QualityUpdate("p", "sim/small", 0.5)])
    await history.delete_scope(scope)
    assert await history.count(scope) == 0
    assert (await history.query(other, unit(0), 100)).quality[0] == pytest.approx(0.9)


async def test_scopes_in_one_partition_stay_apart(history: MilvusHistory, scope: HistoryScope) -> None:
    """With more routers than partitions some share one: the filter alone must keep them apart."""
    others = (HistoryScope(f"bob-{number}", scope.router_id) for number in itertools.count())
    other = next(each for each in others if partition_of(each) == partition_of(scope))
    await history.store(point(scope, "p", "alices"))
    await history.store(point(other, "p", "bobs"))
    assert (await history.query(scope, unit(0), 100)).request_ids == ("alices",)
    await history.delete_scope(scope)
    assert (await history.count(scope), await history.count(other)) == (0, 1)


async def test_ids_of_any_characters_stay_inside_their_filters(history: MilvusHistory) -> None:
    """Quotes, operators and odd Unicode in ids neither break out of an expression nor break the store."""
    scopes = [HistoryScope(user, router) for user in NASTY[:4] for router in NASTY[:4]]
    scopes += [HistoryScope("a/b", "c"), HistoryScope("a", "b/c")]
    await asyncio.gather(*(history.store(point(s, NASTY[i % 9], f"r{i}")) for i, s in enumerate(scopes)))
    for index, one in enumerate(scopes):
        assert (await history.query(one, unit(0), 100)).request_ids == (f"r{index}",)
    odd = HistoryScope(NASTY[7], NASTY[8])
    await history.store(point(odd, NASTY[7], NASTY[7], model=NASTY[8], request_type=NASTY[6]))
    assert await history.count(odd) == 1


async def test_a_point_that_milvus_would_refuse_does_not_spoil_its_group(
    history: MilvusHistory, scope: HistoryScope
) -> None:
    """Bad points are told apart before they join the others."""
    results = await asyncio.gather(
        history.store(point(scope, "p", "r1")),
        history.store(point(scope, "q", "r2", embedding=np.zeros(3, np.float32))),
        history.store(point(scope, "s", "r3", latency_ms=float("nan"))),
        history.store(point(scope, "t", "r" * 5_000)),
        return_exceptions=True,
    )
    assert results[0] is None
    assert [type(result) for result in results[1:]] == [EmbedderMismatch, InvalidRequest, InvalidRequest]
    assert await history.count(scope) == 1


async def test_quality_can_be_revised_later(history: MilvusHistory, scope: HistoryScope) -> None:
    """Batch re-scoring replaces quality, leaves everything else, and reports points that are gone."""
    await history.store(point(scope, "p", "r1", quality=0.1))
    await history.store(point(scope, "q", "r2", quality=0.2, embedding=unit(1)))
    updates = [QualityUpdate("p", "sim/small", 0.9, 3), QualityUpdate("q", "sim/small", None)]
    assert await history.update_quality(scope, [*updates, QualityUpdate("gone", "sim/small", 0.5)]) == 2
    rows = {row.point_id: row async for page in history.scan(scope) for row in page}
    assert (rows["p"].quality, rows["p"].quality_count, rows["p"].latency_ms) == (0.9, 3.0, 100.0)
    np.testing.assert_allclose(rows["p"].embedding, unit(0))
    assert np.isnan((await history.query(scope, unit(1), 1)).quality[0])


async def test_scan_pages_through_all_rows_once(milvus_uri: str, collection: str, scope: HistoryScope) -> None:
    """Rows in and out of flushed segments, more than a page, none twice; filters by time work."""
    history = new_history(milvus_uri, collection, page_rows=7)
    await asyncio.gather(*(history.store(point(scope, f"p{i}", f"r{i}", timestamp=i)) for i in range(20)))
    await history.flush()
    before = time.time()
    await asyncio.gather(*(history.store(point(scope, f"p{i}", f"r{i}", timestamp=i)) for i in range(20, 30)))
    pages = [page async for page in history.scan(scope)]
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2]
    assert sorted(int(row.timestamp) for page in pages for row in page) == list(range(30))
    recent = [row.timestamp async for page in history.scan(scope, updated_since=before) for row in page]
    assert sorted(recent) == list(range(20, 30))
    assert await history.newest_since(scope, 4) == 26.0
    assert await history.newest_since(scope, 30) == 0.0
    await history.close()


async def test_another_embedder_is_refused_by_name(history: MilvusHistory, milvus_uri: str, collection: str) -> None:
    """A changed embedder or dimension is an error that says so, for ever, and never silent garbage."""
    for embedder, dimension in (("other", 16), ("test", 8)):
        changed = new_history(milvus_uri, collection, embedder=embedder, dimension=dimension)
        for _ in range(2):
            with pytest.raises(EmbedderMismatch, match="'test' with 16"):
                await changed.open()
        with pytest.raises(DependencyUnavailable):
            await changed.query(HistoryScope("a", "b"), np.zeros(dimension, np.float32), 1)
        await changed.close()
    with pytest.raises(EmbedderMismatch):
        await history.query(HistoryScope("a", "b"), np.zeros(8, np.float32), 1)


async def test_many_opening_at_once_make_one_collection(milvus_uri: str, collection: str, scope: HistoryScope) -> None:
    """Several gateways that start together share the collection; a point stored by one is found by the other."""
    histories = [new_history(milvus_uri, collection) for _ in range(3)]
    await asyncio.gather(*(each.open() for each in histories))
    await histories[0].store(point(scope, "p", "r1"))
    assert (await histories[1].query(scope, unit(0), 5)).request_ids == ("r1",)
    await asyncio.gather(*(each.close() for each in histories))


async def test_memory_is_loaded_from_milvus_and_follows_it(
    history: MilvusHistory, milvus_uri: str, collection: str, scope: HistoryScope
) -> None:
    """The copy has what Milvus has, own stores at once and another process's stores after a refresh."""
    await history.store(point(scope, "p", "r1"))
    hot = HotHistory(history, refresh_s=0.0)
    assert len(await hot.query(scope, unit(0), 5)) == 1
    assert hot.stats()["rows"] == 0  # Milvus answered
    await hot.settled(scope)
    assert (await hot.query(scope, unit(0), 5)).request_ids == ("r1",)
    assert hot.stats()["rows"] == 1
    hot.learn(point(scope, "q", "r2"))
    assert len(await hot.query(scope, unit(0), 5)) == 2
    other = new_history(milvus_uri, collection)
    await other.store(point(scope, "q", "r2"))
    await other.store(point(scope, "p", "r3"))
    await hot.warm(scope)
    found = await hot.query(scope, unit(0), 5)
    assert (set(found.request_ids), sorted(found.count)) == ({"r2", "r3"}, [1.0, 2.0])
    await hot.close()
    await other.close()
