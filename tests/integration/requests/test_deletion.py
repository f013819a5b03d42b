"""Deleting deletes: twelve points go with their router, model, tenant, rows, end user or request, and nobody who comes
later inherits them. What they cost stays."""

import time
from collections.abc import AsyncIterator

import pytest

from activities.jobs.erasure import RequestErasure
from activities.requests.recording import history_point
from infra.db.learning.learners import PostgresLearners
from infra.db.learning.predictors import PostgresPredictors
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.models import PostgresModelRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.settings import load_settings
from modelpilot.errors import Conflict, NotFound
from modelpilot.learning.feedback import Feedback
from modelpilot.management.resources import NewApiKey
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.erasure import EraseClose, EraseInput
from modelpilot.requests.records import HistoryScope, RequestKey
from modelpilot.routing.router import Router
from processes.worker import aggregation_steps
from tests.support.deletion import ROWS, Deleting, deleting, erasing_worker
from tests.support.rescoring import rescoring_worker, vector

OTHER = "tenant-b"


@pytest.fixture
async def there(
    migrated_url: str, temporal_address: str, milvus_uri: str, simulator_url: str
) -> AsyncIterator[Deleting]:
    async with deleting(migrated_url, temporal_address, milvus_uri, simulator_url) as stores:
        yield stores


async def _router(there: Deleting, user: str = "") -> PostgresRouterRepository:
    routers = PostgresRouterRepository(there.stores.database)
    await routers.put(user or there.stores.user, Router(id="support", available_models=["sim/small", "own"]), "k")
    return routers


async def test_a_router_takes_its_points_along(there: Deleting) -> None:
    """All twelve go; a new router of the name learns from its own requests alone, also where the prompts are the
    same; another tenant's points stay."""
    routers = await _router(there)
    old = await there.twelve()
    await there.twelve(user=OTHER)
    await routers.delete(there.stores.user, "support", "k")
    await _router(there)
    new = await there.add("new", prompt=old[0].prompt_hash, age_s=0.0)
    await there.settle()
    assert [(row.request_id, row.request_count) for row in await there.points()] == [(new.key.request_id, 1.0)]
    assert len(await there.points(OTHER)) == ROWS


async def learnt(there: Deleting) -> dict[str, int]:
    """The answers of each model that the router has learnt online: those kept, which its state has to be made of."""
    scope = HistoryScope(there.stores.user, "support")
    query = "SELECT model, count(*)::int AS n FROM learnt_answers WHERE user_id = %s AND router_id = %s GROUP BY 1"
    rows = await there.stores.database.fetch_all(query, (scope.user_id, scope.router_id))
    found = await PostgresLearners(there.stores.database, None).state(scope)
    assert found is not None
    weights = dict(zip(found.learner.measured.models, found.learner.measured.weight, strict=True))
    kept = {row["model"]: row["n"] for row in rows}
    assert {model for model, weight in weights.items() if weight > 1e-9} == set(kept)
    return kept


async def test_a_model_takes_its_points_along(there: Deleting) -> None:
    """Those of this owner at all routers, and no other model's; a new model of the name begins anew."""
    models = PostgresModelRepository(there.stores.database)
    spec = ModelSpec(id="own", provider="sim", provider_model="small")
    await models.create(there.stores.user, spec, "k")
    await _router(there)
    old = await there.twelve(model="own")
    await there.twelve(model="own", router="second")
    await there.twelve()
    await there.twelve(user=OTHER, model="own")
    await models.delete(there.stores.user, "own", "k")
    await models.create(there.stores.user, spec, "k")
    await there.add("new", model="own", prompt=old[0].prompt_hash, age_s=0.0)
    await there.settle()
    left = await there.points()
    assert sorted((row.model, row.request_count) for row in left) == [("own", 1.0)] + [("sim/small", 1.0)] * ROWS
    assert await there.points(router="second") == []
    assert await learnt(there) == {"own": 1, "sim/small": ROWS}
    assert len(await there.points(OTHER)) == ROWS


async def test_old_evidence_does_not_come_back_by_rescoring(there: Deleting) -> None:
    """The rows of a deleted router stay for the bill, and say nothing about the points of a new one of its name."""
    routers = await _router(there)
    old = await there.add("old")
    await there.settle()
    await routers.delete(there.stores.user, "support", "k")
    await _router(there)
    deleted_at = time.time()
    await there.add("new", prompt=old.prompt_hash, age_s=0.0)
    await there.settle()
    (before,) = await there.points()
    await there.stores.rate("old", 0.0)
    async with rescoring_worker(there.stores):
        await there.stores.run(sources=("feedback",), to_s=deleted_at)
    (after,) = await there.points()
    assert (after.quality, after.quality_count) == (before.quality, before.quality_count)


async def test_purged_rows_take_their_points_along(there: Deleting) -> None:
    """Retention covers the vector history: all twelve go with their rows, with every word of them; a prompt that was
    asked again since keeps its point, with what is left of it."""
    age_s = 40 * 86_400.0
    await _router(there)
    old = await there.twelve(age_s=age_s)
    kept = await there.add("kept", prompt=old[0].prompt_hash)
    await there.settle()
    assert {row.request_count for row in await there.points()} == {1.0, 2.0}
    assert await learnt(there) == {"sim/small": ROWS + 1}
    await there.stores.database.fetch_all("UPDATE requests SET recorded_at = created_at")
    await there.purge()
    assert [(row.request_id, row.request_count) for row in await there.points()] == [(kept.key.request_id, 1.0)]
    for request in old[1:]:  # the prompt hash of the first one, in these tests, has its name in it
        assert there.found(request.key.request_id) == set()
    assert await there.stores.ledger.find(old[0].key) is None
    assert await learnt(there) == {"sim/small": 1}


async def test_points_without_rows_go_with_their_time(there: Deleting) -> None:
    """What a version before this one left behind is older than the retention."""
    old = await there.add("old", age_s=40 * 86_400.0)
    point = history_point(old, vector(1))
    assert point is not None
    await there.settle()
    await there.stores.database.fetch_all("DELETE FROM requests")
    await there.add("new")
    await there.settle()
    assert len(await there.points()) == 2
    await there.purge()
    assert [row.request_id for row in await there.points()] == ["new"]


async def test_a_request_is_erased(there: Deleting) -> None:
    """Its text, names, point and id are nowhere any more, decisions that name it included; what it cost stays."""
    made = await there.twelve(end_user="canary-user", session_id="canary-session", tags={"t": "canary-tag"})
    names = [{"requestId": request.key.request_id, "model": "sim/small"} for request in made]
    await there.add("later", decision={"neighbours": names})
    before, _ = await there.sums(there.stores.user)
    erasing = RequestErasure(there.erasures, there.temporal)
    for request in made:
        assert await erasing.ended(request.key)
        await erasing.erase(request.key, "key_1")
        with pytest.raises(NotFound):
            await erasing.erase(request.key, "key_1")
    await there.settle()
    for request in made:
        assert there.found(request.key.request_id) == set()
        assert there.found(request.prompt_hash) == set()
        assert await there.stores.ledger.find(request.key) is None
        assert await there.stores.ledger.resolve(there.stores.user, f"name-{request.key.request_id}") is None
    raw, hourly = await there.sums(there.stores.user)  # with an aggregation, behind which no sum is of that user
    assert raw == hourly == before
    assert [there.found(f"canary-{what}") for what in ("user", "session", "tag")] == [set(), set(), set()]
    assert [row.request_id for row in await there.points()] == ["later"]
    kept = await there.stores.database.fetch_all("SELECT message_encrypted FROM attempts WHERE request_id ~ '^erased-'")
    assert [row["message_encrypted"] for row in kept] == [None] * ROWS


async def test_a_point_of_several_requests_keeps_what_the_others_say(there: Deleting) -> None:
    """An erased request does not count any more, and the newest of the others names the point."""
    requests = [await there.add(f"r{number}", prompt="same", age_s=100.0 - number) for number in range(3)]
    await there.settle()
    (before,) = await there.points()
    assert (before.request_count, before.request_id) == (3.0, "r2")
    await there.erasures.erase(requests[2].key, "k")
    await there.settle()
    (after,) = await there.points()
    assert (after.request_count, after.request_id, after.latency_ms) == (2.0, "r1", before.latency_ms)
    assert after.embedding.tolist() == pytest.approx(before.embedding.tolist())


async def test_what_was_erased_is_not_written_again(there: Deleting) -> None:
    """A gateway that still holds the request brings nothing of it back: no row, attempt, text, name or point."""
    made = await there.add("zombie-row")
    await there.erasures.erase(made.key, "k")
    point = history_point(made, vector(1))
    assert not await there.stores.ledger.record(made, point)
    await there.stores.ledger.record_attempts(made.key, made.outcome.attempts)
    await there.settle()
    assert there.found("zombie-row") == set()
    assert await there.points() == []
    assert there.found("zombie-row") == set()


async def test_a_point_that_waits_goes_with_its_request(there: Deleting) -> None:
    """While the vector store is away, too."""
    made = await there.add("waits")
    await there.erasures.erase(made.key, "k")
    await there.settle()
    assert await there.points() == []


async def test_a_running_request_is_not_erased(there: Deleting) -> None:
    """It would be written by its end."""
    await there.stores.database.fetch_all(
        "INSERT INTO open_requests (user_id, request_id, owner, request) VALUES (%s, 'runs', 'gateway', '')",
        (there.stores.user,),
    )
    erasing = RequestErasure(there.erasures, there.temporal, patience_s=0.0)
    with pytest.raises(Conflict):
        await erasing.ended(RequestKey(there.stores.user, "runs"))


async def test_another_tenants_request_is_unknown(there: Deleting) -> None:
    """Ids are per owner."""
    made = await there.add("theirs", user=OTHER)
    erasing = RequestErasure(there.erasures, there.temporal)
    assert not await erasing.ended(RequestKey(there.stores.user, "theirs"))
    assert not await there.erasures.erase(RequestKey(there.stores.user, "theirs"), "k")
    assert await there.stores.ledger.find(made.key) is not None


async def test_an_end_user_is_erased(there: Deleting) -> None:
    """All requests of that name in the tenant, what that person said about others' answers, and the name itself; the
    same name at another tenant is somebody else."""
    mine = await there.twelve(end_user="canary-user")
    others = await there.twelve(end_user="somebody")
    theirs = await there.twelve(user=OTHER, end_user="canary-user")
    await there.stores.feedback.put(Feedback(others[0].key, "key_1", 0.0, "canary-user", None))
    before, _ = await there.sums(there.stores.user)
    settings = load_settings({"MODELPILOT_DATA_DIR": "unused"})
    async with erasing_worker(there, aggregation_steps(settings, there.stores.database)):
        job = await there.run("end_user", "canary-user")
    assert (job.status, job.progress.done, job.progress.total) == ("completed", ROWS, ROWS)
    assert {row.request_id for row in await there.points()} == {request.key.request_id for request in others}
    assert len(await there.points(OTHER)) == ROWS
    for request in mine:
        assert there.found(request.key.request_id) == set()
    assert await there.stores.ledger.find(theirs[0].key) is not None
    voices = await there.stores.database.fetch_all("SELECT 1 FROM feedback WHERE source <> ''")
    assert voices == []
    raw, hourly = await there.sums(there.stores.user)
    assert raw == hourly == before
    row = await there.stores.database.fetch_one("SELECT subject FROM erasures WHERE id = %s", (job.id,))
    assert row == {"subject": None}


async def test_a_tenant_is_erased(there: Deleting) -> None:
    """Keys stop at once; routers, models, points, rows and predictors go; what it cost is nobody's by name. A tenant
    of the same name begins anew."""
    keys = PostgresApiKeyRepository(there.stores.database)
    _, secret = await keys.create(there.stores.user, NewApiKey("k", frozenset({"route"}), None, None))
    await _router(there)
    mine, user = await there.twelve(), there.stores.user
    await there.twelve(user=OTHER)
    before, _ = await there.sums(user)
    settings = load_settings({"MODELPILOT_DATA_DIR": "unused"})
    async with erasing_worker(there, aggregation_steps(settings, there.stores.database)):
        job = await there.run("tenant", user, user="operator")
    assert (job.status, job.progress.done) == ("completed", ROWS)
    assert await keys.authenticate(secret) is None
    assert await there.points() == []
    assert len(await there.points(OTHER)) == ROWS
    for request in mine:
        assert there.found(request.key.request_id) == set()
    assert await there.sums(user) == ([], [])
    assert there.found(user) == {"audit_log", "forgotten"}
    raw, hourly = await there.sums(f"erased-{job.id.removeprefix('erase-')}")
    assert raw == hourly == before
    await _router(there)
    await there.add("new", age_s=0.0)
    await there.settle()
    assert [row.request_id for row in await there.points()] == ["new"]


async def test_a_tenant_that_is_not_there_or_that_operates_is_not_deleted(there: Deleting) -> None:
    """Nor is one made anew while its rows are going."""
    keys = PostgresApiKeyRepository(there.stores.database)
    new = NewApiKey("k", frozenset({"route"}), None, None)
    with pytest.raises(NotFound):
        await there.erasures.add("operator", "tenant", "nobody", "k")
    await there.stores.database.fetch_all("INSERT INTO users (id, operator) VALUES ('boss', true)")
    with pytest.raises(Conflict):
        await there.erasures.add("operator", "tenant", "boss", "k")
    await keys.create(OTHER, new)
    job = await there.erasures.add("operator", "tenant", OTHER, "k")
    with pytest.raises(Conflict):
        await keys.create(OTHER, new)
    await there.erasures.close(EraseClose(EraseInput("operator", job.id), "completed"))
    await keys.create(OTHER, new)


async def test_what_is_accepted_when_a_person_is_erased_is_waited_for(there: Deleting) -> None:
    """A request that runs has nobody's name yet: the job goes on until it has ended."""
    job = await there.erasures.add(there.stores.user, "end_user", "canary-user", "k")
    given = EraseInput(there.stores.user, job.id)
    await there.stores.database.fetch_all(
        "INSERT INTO open_requests (user_id, request_id, owner, request) VALUES (%s, 'runs', 'gateway', '')",
        (there.stores.user,),
    )
    await there.stores.database.fetch_all("UPDATE erasures SET created_at = clock_timestamp() - interval '1 minute'")
    await there.stores.database.fetch_all(
        "UPDATE open_requests SET accepted_at = clock_timestamp() - interval '2 minutes'"
    )
    assert await there.erasures.waits(given)
    made = await there.add("runs", end_user="canary-user")
    assert await there.erasures.due(given, 10) == []
    await there.stores.database.fetch_all("DELETE FROM open_requests")
    assert await there.erasures.due(given, 10) == [made.key]
    await there.erasures.erase_batch(given, [made.key])
    assert not await there.erasures.waits(given)


async def test_predictors_go_with_what_they_were_fitted_to(there: Deleting) -> None:
    """They hold the vectors of prompts. A fit that was under way is not stored, and the next one is due."""
    scope, database = HistoryScope(there.stores.user, "support"), there.stores.database
    routers, predictors = await _router(there), PostgresPredictors(database)
    query = """INSERT INTO predictors (user_id, router_id, version, fitted_at, rows, accepted, report, artifact)
        VALUES (%s, 'support', %s, now(), 1, true, '{}', '')"""
    made = await there.add("fitted")
    await there.settle()
    await database.fetch_all(query, (scope.user_id, 1))
    await there.erasures.erase(made.key, "k")
    await there.settle()
    assert await predictors.versions(scope) == []
    await database.fetch_all(query, (scope.user_id, 2))
    await routers.delete(scope.user_id, "support", "k")
    await there.settle()
    assert await predictors.versions(scope) == []
