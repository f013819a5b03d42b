"""Predictors in use: loaded behind requests, replaced when there is a newer one, and part of decisions that say so."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from activities.requests.caches import REFRESH_S, RETRY_S, PredictorCache
from activities.requests.decision import DecisionSteps
from modelpilot.learning.refit import FittedArtifact, Served
from modelpilot.requests.records import HistoryScope, Neighbours, RouterSnapshot, Vector
from tests.support.fakes import FakeEmbedder, FakeHistory
from tests.support.refit import DIMENSION, FakePredictorStore, artifact, report, vector
from tests.support.routing_samples import OWNER, profile, router, snapshot, spec

SCOPE = HistoryScope(OWNER, "support")
REFUSED = FittedArtifact(None, report("worse than the global mean"))


def _version(served: Served | None) -> int | None:
    """The version of the fit that takes part."""
    return served.predictor.version if served is not None and served.predictor is not None else None


class Clock:
    """Monotonic seconds that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_decision_never_waits_for_a_predictor() -> None:
    """The first one goes on without; once it is loaded, the next one has it. A second look costs nothing."""
    store = FakePredictorStore()
    await store.add(SCOPE, 5.0, 100, artifact())
    cache = PredictorCache(store)
    assert cache.get(SCOPE) is None
    await cache.settled()
    served = cache.get(SCOPE)
    assert served is not None
    assert served.predictor is not None
    assert (served.predictor.version, served.predictor.fitted_at) == (1, 5.0)
    assert (cache.get(SCOPE), store.reads) == (served, 1)


async def test_an_announced_version_replaces_the_old_one() -> None:
    """Until the new one has come, the old one decides; a refused fit has
    nobody decide but what was learnt online; other routers are left alone."""
    store, cache = FakePredictorStore(), None
    await store.add(SCOPE, 5.0, 100, artifact())
    cache = PredictorCache(store)
    cache.get(SCOPE)
    await cache.settled()
    await store.add(SCOPE, 6.0, 100, artifact(1))
    cache.announced("somebody", "else")
    first = cache.get(SCOPE)
    assert (_version(first), store.reads) == (1, 1)
    cache.announced(*(SCOPE.user_id, SCOPE.router_id))
    still = cache.get(SCOPE)
    await cache.settled()
    swapped = cache.get(SCOPE)
    assert still is first
    assert _version(swapped) == 2
    await store.add(SCOPE, 7.0, 100, REFUSED)
    cache.announced()
    cache.get(SCOPE)
    await cache.settled()
    alone = cache.get(SCOPE)
    assert alone is not None
    assert alone.predictor is None
    assert "worse than the global mean" in alone.because


async def test_a_missed_announcement_is_made_up_for() -> None:
    """Every few minutes it looks by itself; while Postgres is away the old one stays, and it looks again soon."""
    store, clock = FakePredictorStore(), Clock()
    cache = PredictorCache(store, clock=clock)
    await store.add(SCOPE, 5.0, 100, artifact())
    cache.get(SCOPE)
    await cache.settled()
    await store.add(SCOPE, 6.0, 100, artifact(1))
    store.away, clock.now = True, REFRESH_S
    cache.get(SCOPE)
    await cache.settled()
    kept = cache.get(SCOPE)
    assert _version(kept) == 1
    store.away, clock.now = False, REFRESH_S + RETRY_S
    cache.get(SCOPE)
    await cache.settled()
    found = cache.get(SCOPE)
    assert _version(found) == 2


async def test_what_cannot_be_read_is_not_used() -> None:
    """An artifact of another release neither breaks a decision nor is asked for with every request."""
    store = FakePredictorStore()
    await store.add(SCOPE, 5.0, 100, FittedArtifact(b"something else", report()))
    cache = PredictorCache(store)
    for _ in range(3):
        assert _version(cache.get(SCOPE)) is None
        await cache.settled()
    assert store.reads == 1


async def test_an_announcement_during_a_load_is_heard() -> None:
    """The version that was stored while the former one was being read is not missed."""
    store = FakePredictorStore()
    await store.add(SCOPE, 5.0, 100, artifact())
    cache = PredictorCache(store)
    cache.get(SCOPE)
    cache.announced(SCOPE.user_id, SCOPE.router_id)
    await cache.settled()
    cache.get(SCOPE)
    await cache.settled()
    assert store.reads == 2


async def test_memory_is_bounded() -> None:
    """The router unused for longest makes room, and is loaded anew when it is asked for again."""
    store, made = FakePredictorStore(), artifact()
    assert made.artifact is not None
    cache = PredictorCache(store, maximum_bytes=2 * len(made.artifact))
    scopes = [HistoryScope(OWNER, name) for name in ("a", "b", "c")]
    for scope in scopes:
        await store.add(scope, 5.0, 100, made)
        cache.get(scope)
        await cache.settled()
    assert [cache.get(scope) is None for scope in scopes[1:]] == [False, False]
    assert cache.get(scopes[0]) is None
    await cache.settled()


async def test_closing_stops_loads() -> None:
    """A gateway that ends waits for no predictor."""
    cache = PredictorCache(FakePredictorStore())
    cache.get(SCOPE)
    await asyncio.wait_for(cache.close(), 1.0)


class Pointing(FakeEmbedder):
    """Every prompt points to where sim/a is good, or away from there."""

    def __init__(self, first: float) -> None:
        super().__init__()
        self.dimension, self._first = DIMENSION, first

    async def embed(self, text: str) -> Vector:
        return vector(self._first)


class NoHistory(FakeHistory):
    """Nothing similar was ever asked."""

    async def query(self, scope: HistoryScope, vector: Vector, limit: int) -> Neighbours:
        return Neighbours.empty()


async def test_decisions_use_the_predictor_and_say_so() -> None:
    """Same router, same priors: the prompt's vector decides, and the decision names the version."""
    store = FakePredictorStore()
    await store.add(SCOPE, 86_400.0, 100, artifact())
    cache = PredictorCache(store)
    cache.get(SCOPE)
    await cache.settled()
    specs = (spec("sim/a"), spec("sim/b"))
    shot = snapshot(router("sim/a", "sim/b", objective={"quality_weight": 1.0}), *specs)

    async def load() -> RouterSnapshot:
        return shot

    for first, expected in ((0.9, "sim/a"), (-0.9, "sim/b")):
        steps = DecisionSteps(Pointing(first), NoHistory(), predictors=cache)
        decided = await steps.decide(load, profile())
        assert decided.decision.selected == expected
        wire = decided.decision.to_wire()
        assert wire["predictor"] == {"version": 1, "fittedAt": "1970-01-02T00:00:00+00:00"}
        assert wire["candidates"][0]["quality"]["sd"] > 0.0
        assert decided.reports["score_models"].detail["predictor"] == 1
    direct = replace(shot, router=shot.router.model_copy(update={"id": ""}))

    async def load_direct() -> RouterSnapshot:
        return direct

    without = await DecisionSteps(Pointing(0.9), NoHistory(), predictors=cache).decide(load_direct, profile())
    assert without.decision.to_wire()["predictor"] is None


def test_samples_are_what_they_say() -> None:
    """The vectors of these tests have unit length, as an embedder's do."""
    assert np.linalg.norm(vector(0.9)) == pytest.approx(1.0)
