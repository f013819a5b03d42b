"""What routers learn online, on a real Postgres: one state for all, exact after whatever happened."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from infra.db.engine import Database
from infra.db.learning.feedback import PostgresFeedback
from infra.db.learning.learners import PostgresLearners
from infra.db.management.routers import PostgresRouterRepository
from infra.db.requests.ledger import PostgresLedger
from infra.db.routing.notifications import ConfigurationListener
from modelpilot.learning.estimation import Learner
from modelpilot.learning.estimation.basis import make_basis
from modelpilot.learning.estimation.learner import HALF_LIFE_S
from modelpilot.learning.feedback import Feedback
from modelpilot.learning.online import LearnerVersion, answer_of, learn
from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.requests.records import HistoryPoint, HistoryScope, RequestKey, Vector
from tests.support.routing_samples import router, spec
from tests.support.samples import NOW, keyring, outcome, record

SCOPE = HistoryScope("alice", "support")
MODELS = ("sim/small", "sim/large")
COLUMNS = CatalogueColumns.of([spec(name, quality_score=0.6) for name in MODELS])


def vectors(count: int, seed: int = 0) -> Vector:
    """Prompts all over a sphere."""
    found = np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)
    unit: Vector = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


BASIS = make_basis(vectors(200, 9), 60)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    ledger = PostgresLedger(database, keyring())
    yield ledger
    await ledger.close()


@pytest.fixture
async def learners(database: Database) -> PostgresLearners:
    await _router(database, "support")
    return PostgresLearners(database, BASIS)


async def _router(database: Database, name: str) -> None:
    routers = PostgresRouterRepository(database)
    await routers.put("alice", router(*MODELS).model_copy(update={"id": name}), "key")


async def answered(
    ledger: PostgresLedger, count: int, *, router_id: str = "support", first: int = 0
) -> list[HistoryPoint]:
    """So many requests in the ledger, every third graded by a check, with their points."""
    points = []
    for number, vector in enumerate(vectors(count, first), first):
        model, quality = MODELS[number % 2], float(number % 2) if number % 3 == 0 else None
        name, prompt = f"r{number}", f"p{number // 2}"  # two models are asked the same
        made = record(
            "alice", name, router_id=router_id, prompt_hash=prompt, outcome=outcome(model=model, quality=quality)
        )
        await ledger.record(made)
        scope = HistoryScope("alice", router_id)
        points.append(
            HistoryPoint(
                f"{prompt}/{model}", scope, model, name, vectors(count, first)[number // 2 - first // 2], 300.0, 0.1,
                quality, None, 10, 20, "chat", NOW + number, 0.25, 9,
            )
        )  # fmt: skip
        del vector
    return points


async def said(database: Database, request_id: str, score: float) -> None:
    """Somebody rates an answer."""
    await PostgresFeedback(database, keyring()).put(Feedback(RequestKey("alice", request_id), "key_1", score))


async def state(learners: PostgresLearners, scope: HistoryScope = SCOPE) -> LearnerVersion:
    """The state as a gateway that has just started reads it."""
    found = await learners.state(scope)
    assert found is not None
    return found


def expected(version: LearnerVersion) -> np.ndarray:
    """All numbers that decisions take from a state."""
    outlook = version.learner.outlook(COLUMNS, NOW)
    made = [outlook.expected(vector) for vector in vectors(5, 77)]
    return np.concatenate([outlook.measures.ravel(), *[np.r_[each.level, each.prompt, each.sd] for each in made]])


async def batch(database: Database, points: Sequence[HistoryPoint], like: LearnerVersion) -> LearnerVersion:
    """What the rows say, learnt at once with the features of a state."""
    rows = await database.fetch_all("SELECT request_id, quality, quality_confidence FROM requests")
    grades = {row["request_id"]: row for row in rows}
    learner, known = Learner(like.learner.basis, like.learner.began), []
    for point in points:
        row, confidence = grades[point.request_id], grades[point.request_id]["quality_confidence"] or 0.0
        weight = 0.0 if row["quality"] is None else min(confidence / (1.0 - confidence), 1.0)
        known.append(replace(answer_of(point), quality=row["quality"] or 0.0, weight=weight))
    learn(learner, known)
    return LearnerVersion(1, NOW, learner)


async def test_the_state_is_what_the_rows_say(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """In batches, twice, with late and revised grades: a gateway that starts now reads the posterior of all rows."""
    points = await answered(ledger, 24)
    for batch_of in (points[:5], points[5:], points[3:9]):
        await learners.learn(batch_of)
    for name, score in (("r1", 1.0), ("r4", 0.0), ("r1", 0.0)):
        await said(database, name, score)
        assert await learners.regrade(10) == 1
    found = await state(learners)
    whole = await batch(database, points, found)
    np.testing.assert_allclose(expected(found), expected(whole), rtol=1e-9, atol=1e-12)
    assert found.learner.quality.weight.sum() == pytest.approx(whole.learner.quality.weight.sum())


async def test_what_is_known_changes_nothing(learners: PostgresLearners, ledger: PostgresLedger) -> None:
    """An outbox that is played again and again neither changes the state nor wakes the gateways."""
    points = await answered(ledger, 6)
    await learners.learn(points)
    before = await state(learners)
    await learners.learn(points)
    after = await state(learners)
    assert (before.version, before.updated_at) == (after.version, after.updated_at)
    assert await learners.state(SCOPE, before.version) is None


async def test_a_grade_may_come_before_the_answer(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """The outbox waits for the vector store while people rate already: the grade is read with the answer."""
    points = await answered(ledger, 3)
    await said(database, "r1", 1.0)
    assert await learners.regrade(10) == 1
    await learners.learn(points)
    found = await state(learners)
    whole = await batch(database, points, found)
    np.testing.assert_allclose(expected(found), expected(whole), rtol=1e-9, atol=1e-12)


async def test_two_workers_at_once_lose_nothing(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """Each waits for the other's state, and two gateways decide alike whenever they read it."""
    points = await answered(ledger, 20)
    other = PostgresLearners(database, BASIS)
    await asyncio.gather(*((learners, other)[place % 2].learn([each]) for place, each in enumerate(points)))
    one, two = await state(learners), await state(other)
    assert one.version == two.version == 20
    assert expected(one).tolist() == expected(two).tolist()
    whole = await batch(database, points, one)
    np.testing.assert_allclose(expected(one), expected(whole), rtol=1e-9, atol=1e-12)


async def test_gateways_hear_of_a_new_state(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """As of a new fit."""
    heard: asyncio.Queue[tuple[str | None, str, str]] = asyncio.Queue()

    def callback(kind: str | None, user_id: str = "", subject: str = "") -> None:
        heard.put_nowait((kind, user_id, subject))

    points = await answered(ledger, 1)
    listener = ConfigurationListener(database.url, callback)
    await listener.start()
    await listener.wait_until_listening()
    await learners.learn(points)
    assert await asyncio.wait_for(heard.get(), 10.0) == ("predictor", "alice", "support")
    await listener.stop()


async def test_a_forgotten_request_was_never_made(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """What a deleted request has taught is taken out exactly."""
    points = await answered(ledger, 12)
    await learners.learn(points)
    await learners.forget("alice", ["r0", "r5"])
    found = await state(learners)
    left = [each for each in points if each.request_id not in ("r0", "r5")]
    whole = await batch(database, left, found)
    np.testing.assert_allclose(expected(found), expected(whole), rtol=1e-9, atol=1e-12)
    assert await database.fetch_all("SELECT 1 FROM learnt_answers WHERE request_id IN ('r0', 'r5')") == []


async def test_it_goes_with_its_router(learners: PostgresLearners, database: Database, ledger: PostgresLedger) -> None:
    """With its answers; one of the same name begins anew, and what comes late for a router that is gone is dropped."""
    points = await answered(ledger, 6)
    await learners.learn(points[:5])
    await PostgresRouterRepository(database).delete("alice", "support", "key")
    await learners.learn(points[5:])
    for table in ("learners", "learnt_answers"):
        assert await database.fetch_all(f"SELECT 1 FROM {table}") == []  # noqa: S608
    found = await state(learners)
    assert (found.version, found.learner.quality.models) == (0, [])


async def test_a_new_router_inherits_a_little(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """Of the owner's other routers, before its first answer and after; never of another owner's."""
    await learners.learn(await answered(ledger, 30))
    await _router(database, "second")
    new = HistoryScope("alice", "second")
    fresh, known = await state(learners, new), await state(learners)
    assert fresh.version == 0
    first, other = (each.learner.quality.weight for each in (known, fresh))
    assert 0.0 < other.sum() < 0.5 * first.sum()
    await learners.learn(await answered(ledger, 1, router_id="second", first=100))
    assert (await state(learners, new)).version == 1
    assert (await state(learners, HistoryScope("bob", "second"))).learner.quality.models == []


async def test_features_are_made_of_own_prompts_where_there_are_enough(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state follows from the same answers under the new features, and further answers go on from there."""
    monkeypatch.setattr("modelpilot.learning.online.OWN_BASIS_PROMPTS", 8)
    points = await answered(ledger, 20)
    await learners.learn(points[:10])
    assert not await learners.renew(SCOPE)
    await learners.learn(points[10:18])  # nine prompts: made by the way
    assert not await learners.renew(SCOPE)  # not before there are about twice as many
    await learners.learn(points[18:])
    await said(database, "r2", 1.0)
    await learners.regrade(10)
    found = await state(learners)
    assert found.learner.basis is not None
    assert found.learner.basis.name != BASIS.name
    whole = await batch(database, points, found)
    np.testing.assert_allclose(expected(found), expected(whole), rtol=1e-8, atol=1e-10)


async def test_another_embedder_begins_with_what_the_answers_say(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger
) -> None:
    """States that were made with other features are made anew from the answers, never mixed."""
    points = await answered(ledger, 12)
    await learners.learn(points[:8])
    other = PostgresLearners(database, make_basis(vectors(200, 10), 60))
    await other.learn(points[8:])
    found = await state(other)
    assert found.learner.basis is not None
    assert found.learner.basis.name != BASIS.name
    whole = await batch(database, points, found)
    np.testing.assert_allclose(expected(found), expected(whole), rtol=1e-8, atol=1e-10)


async def test_vectors_of_two_embedders_are_not_mixed(
    learners: PostgresLearners, database: Database, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features are made of the newest embedder's vectors; what was asked under another one still tells levels."""
    monkeypatch.setattr("modelpilot.learning.online.OWN_BASIS_PROMPTS", 4)
    old, new = await answered(ledger, 6), await answered(ledger, 12, first=100)
    await learners.learn(old)
    other = PostgresLearners(database, None)
    await other.learn([replace(each, embedding=np.r_[each.embedding, np.float32(0.5)]) for each in new])
    found = await state(other)
    assert found.learner.basis is not None
    assert found.learner.basis.dimension == 17
    faded = 2.0 ** ((NOW - found.learner.began) / HALF_LIFE_S)
    assert found.learner.measured.weight.sum() == pytest.approx(18 * faded, rel=1e-3)
