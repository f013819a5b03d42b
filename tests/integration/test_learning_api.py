"""Feedback, stored texts and jobs over HTTP, on a real Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.app import create_app
from api.auth import CachedAuthenticator
from api.routes import feedback, jobs, requests
from api.services import Services
from infra.catalogue.seed import seed_models
from infra.db.engine import Database
from infra.db.feedback import PostgresFeedback
from infra.db.housekeeping import Housekeeping
from infra.db.ledger import PostgresLedger
from infra.db.repositories.api_keys import PostgresApiKeyRepository
from infra.db.repositories.audit import PostgresAuditRepository
from infra.db.repositories.models import PostgresModelRepository
from infra.db.repositories.providers import PostgresProviderRepository
from infra.db.repositories.routers import PostgresRouterRepository
from infra.db.rescore_jobs import PostgresRescoreJobs
from infra.db.seed import ensure_operator, seed_catalogue
from infra.db.stored_texts import StoredTexts
from modelpilot.errors import DependencyUnavailable
from modelpilot.management import OPERATOR_USER
from modelpilot.records import RequestKey
from modelpilot.rescoring import CloseInput, RescoreInput, RescoreSpec
from tests.support.database_samples import keyring, outcome, record, table_text
from tests.support.management_fakes import bearer

MakeClient = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
PROMPT, ANSWER = "a-secret-prompt", "a-secret-answer"
BODY = {"messages": [{"role": "user", "content": PROMPT}]}


@dataclass
class FakeRunner:
    """Temporal, as far as the API sees it."""

    started: list[RescoreInput] = field(default_factory=list)
    signals: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    async def start(self, job: RescoreInput) -> None:
        if self.away:
            raise DependencyUnavailable("Temporal did not acknowledge in time", retry_after_s=2.0)
        self.started.append(job)

    async def pause(self, workflow_id: str) -> None:
        self.signals.append(("pause", workflow_id))

    async def resume(self, workflow_id: str) -> None:
        self.signals.append(("resume", workflow_id))

    async def cancel(self, workflow_id: str) -> None:
        self.signals.append(("cancel", workflow_id))


@dataclass
class Site:
    """An application with two tenants."""

    client: TestClient[web.Request, web.Application]
    database: Database
    ledger: PostgresLedger
    jobs: PostgresRescoreJobs
    runner: FakeRunner
    admin: str
    url: str

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        response = await self.client.request(method, path, json=body, headers=bearer(key or self.admin))
        return response.status, await response.json() if await response.read() else None

    async def key(self, user: str, **fields: Any) -> str:
        body = {"userId": user, "scopes": ["route"], **fields}
        return str((await self.call("POST", "/api/keys", body))[1]["key"])

    async def add(self, name: str, *, stored: bool = False, **changes: Any) -> RequestKey:
        answer = {"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}
        made = record(OPERATOR_USER, name, outcome=outcome(quality=None, answer=answer, **changes))
        await self.ledger.record(replace(made, stored_body=BODY if stored else None))
        return made.key


@pytest.fixture
async def site(migrated_url: str, aiohttp_client: MakeClient) -> AsyncIterator[Site]:
    ring, runner = keyring(), FakeRunner()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(migrated_url))
        await seed_catalogue(database, seed_models())
        secret = await ensure_operator(database)
        ledger, keys = PostgresLedger(database, ring), PostgresApiKeyRepository(database)
        stack.push_async_callback(ledger.close)
        stack.push_async_callback(keys.close)
        stored = PostgresRescoreJobs(database)

        def register(app: web.Application) -> None:
            app[requests.LEDGER] = ledger
            app[feedback.FEEDBACK], app[feedback.TEXTS] = PostgresFeedback(database, ring), StoredTexts(database, ring)
            app[jobs.RESCORE_JOBS], app[jobs.JOB_RUNNER] = stored, runner
            feedback.register(app)
            jobs.register(app)

        services = Services(
            authenticator=CachedAuthenticator(keys),
            routers=PostgresRouterRepository(database),
            models=PostgresModelRepository(database),
            providers=PostgresProviderRepository(database, ring),
            keys=keys,
            audit=PostgresAuditRepository(database),
            extra_routes=[register],
        )
        client = await aiohttp_client(create_app(services))
        yield Site(client, database, ledger, stored, runner, secret or "", migrated_url)


async def test_feedback_changes_the_quality_at_once(site: Site) -> None:
    """A score, then thumbs of the same source: the latest wins, and the row says where its quality comes from."""
    await site.add("r1")
    status, told = await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 0.25, "comment": "so so"})
    assert (status, told) == (200, {"requestId": "r1", "score": 0.25, "quality": 0.25, "qualitySource": "feedback"})
    await site.call("POST", "/v1/feedback", {"requestId": "r1", "thumbs": "up"})
    stored = await site.ledger.find(RequestKey(OPERATOR_USER, "r1"))
    assert stored is not None
    assert stored.record.outcome.quality == 1.0


async def test_end_users_are_told_apart(site: Site) -> None:
    """Each person's word counts beside the others', and who they are is not stored in clear."""
    await site.add("r1")
    for user, score in (("ann@example.org", 1.0), ("bob@example.org", 0.0), ("ann@example.org", 0.5)):
        _, told = await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": score, "user": user})
    assert told["quality"] == pytest.approx(0.25)
    assert "example.org" not in table_text(site.url, "feedback")


async def test_the_clients_own_name_for_a_request_works(site: Site) -> None:
    """`requestId` may be the x-request-id that the client sent with an Idempotency-Key."""
    await site.add("key_1")
    await site.ledger.reserve(OPERATOR_USER, "request-id", "my-name", b"digest", "key_1")
    status, told = await site.call("POST", "/v1/feedback", {"requestId": "my-name", "score": 1})
    assert (status, told["requestId"]) == (200, "key_1")


@pytest.mark.parametrize(
    "fields",
    [{}, {"score": 1.5}, {"score": -0.1}, {"score": 1, "thumbs": "up"}, {"thumbs": "sideways"},
     {"score": 1, "comment": "x" * 2_001}, {"score": 1, "user": ""}, {"score": 1, "stars": 5}, {"score": "1"}],
)  # fmt: skip
async def test_bad_feedback_is_refused(site: Site, fields: dict[str, Any]) -> None:
    """What cannot be read as one opinion is a 422, and changes nothing."""
    await site.add("r1")
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r1", **fields}))[0] == 422
    assert table_text(site.url, "feedback") == "[]"


async def test_feedback_on_what_is_not_there(site: Site) -> None:
    """Unknown requests and those of another tenant are the same 404; a failed one has no answer to rate."""
    await site.add("r1")
    await site.add("failed", status="failed")
    other = await site.key("bob")
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r9", "score": 1}))[0] == 404
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1}, key=other))[0] == 404
    assert (await site.call("POST", "/v1/feedback", {"requestId": "failed", "score": 1}))[0] == 409
    assert (await site.call("DELETE", "/v1/requests/r1/text", key=other))[0] == 404


async def test_a_key_for_other_routers_may_not_rate(site: Site) -> None:
    """Allowed routers hold here, too."""
    await site.add("r1")
    narrow = await site.key(OPERATOR_USER, allowedRouters=["other"])
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1}, key=narrow))[0] == 403


async def test_comments_and_texts_are_encrypted(site: Site) -> None:
    """Nobody who reads the database reads what people wrote."""
    await site.add("r1", stored=True)
    await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1, "comment": "a-secret-comment"})
    for table in ("feedback", "stored_texts", "payloads", "requests", "attempts"):
        assert "secret" not in table_text(site.url, table)


async def test_text_is_kept_only_where_the_router_says_so(site: Site) -> None:
    """`storePrompts: false` leaves nothing but the recovery payload."""
    await site.add("stored", stored=True)
    await site.add("plain")
    status, text = await site.call("GET", "/v1/requests/stored/text")
    assert (status, text["body"]) == (200, BODY)
    assert text["answer"]["choices"][0]["message"]["content"] == ANSWER
    assert (await site.call("GET", "/v1/requests/plain/text"))[0] == 404


async def test_a_stored_answer_outlives_the_recovery_payload(site: Site) -> None:
    """After 24 hours the answer comes from the stored text; without one it is gone."""
    for name in ("stored", "plain"):
        await site.add(name, stored=name == "stored")
    with psycopg.connect(site.url) as connection:
        connection.execute("UPDATE payloads SET expires_at = now() - interval '1 second'")
    stored = await site.ledger.find(RequestKey(OPERATOR_USER, "stored"))
    plain = await site.ledger.find(RequestKey(OPERATOR_USER, "plain"))
    assert stored is not None
    assert plain is not None
    assert stored.record.outcome.answer is not None
    assert plain.record.outcome.answer is None


async def test_text_can_be_deleted(site: Site) -> None:
    """Deleting takes every word: the stored text, the recovery payloads, comments. The row and its score stay."""
    await site.add("r1", stored=True)
    await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1, "comment": "mine"})
    assert (await site.call("DELETE", "/v1/requests/r1/text"))[0] == 204
    assert (await site.call("DELETE", "/v1/requests/r1/text"))[0] == 404
    assert table_text(site.url, "stored_texts") == table_text(site.url, "payloads") == "[]"
    with psycopg.connect(site.url) as connection:
        assert connection.execute("SELECT score, comment_encrypted FROM feedback").fetchall() == [(1.0, None)]


async def test_text_goes_with_its_router(site: Site) -> None:
    """Deleting a router deletes what was stored for it, and nothing of another's."""
    router = {"id": "support", "availableModels": ["sim/small"], "storePrompts": True}
    await site.call("POST", "/api/routers", router)
    await site.add("r1", stored=True)
    await site.ledger.record(replace(record(OPERATOR_USER, "r2", router_id="other"), stored_body=BODY))
    assert (await site.call("DELETE", "/api/routers/support"))[0] == 204
    assert (await site.call("GET", "/v1/requests/r1/text"))[0] == 404
    assert (await site.call("GET", "/v1/requests/r2/text"))[0] == 200


async def test_text_expires(site: Site) -> None:
    """Behind its retention a text is gone for readers at once, and from the disk with the next sweep."""
    await site.add("r1", stored=True)
    with psycopg.connect(site.url) as connection:
        connection.execute("UPDATE stored_texts SET expires_at = now() - interval '1 second'")
    assert (await site.call("GET", "/v1/requests/r1/text"))[0] == 404
    assert (await Housekeeping(site.database).sweep()).texts == 1
    assert table_text(site.url, "stored_texts") == "[]"


async def test_a_job_is_started_shown_and_listed(site: Site) -> None:
    """202 with the contract's shape; the job is its owner's alone."""
    status, job = await site.call("POST", "/api/jobs/rescore", {"sources": ["feedback"], "sampleSize": 5})
    assert (status, job["status"], job["progress"]) == (202, "running", {"done": 0, "total": 0})
    assert site.runner.started[0].spec.sample_size == 5
    assert (await site.call("GET", f"/api/jobs/{job['id']}"))[1] == job
    assert (await site.call("GET", "/api/jobs"))[1]["items"] == [job]
    other = await site.key("bob", scopes=["admin"])
    for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/cancel")):
        assert (await site.call(method, f"/api/jobs/{job['id']}{path}", key=other))[0] == 404
    assert (await site.call("GET", "/api/jobs", key=other))[1]["items"] == []


async def test_a_job_without_a_body_takes_the_defaults(site: Site) -> None:
    """Everything is optional."""
    status, _ = await site.call("POST", "/api/jobs/rescore")
    assert status == 202
    spec = site.runner.started[0].spec
    assert (spec.sources, spec.from_s, spec.judge_model) == (("checks", "feedback"), None, None)


async def test_a_job_is_steered(site: Site) -> None:
    """Pause, resume and cancel reach the workflow; what has ended cannot be steered."""
    _, job = await site.call("POST", "/api/jobs/rescore", {})
    assert (await site.call("POST", f"/api/jobs/{job['id']}/pause"))[1]["paused"] is True
    assert (await site.call("POST", f"/api/jobs/{job['id']}/resume"))[1]["paused"] is False
    assert (await site.call("POST", f"/api/jobs/{job['id']}/cancel"))[0] == 200
    assert [name for name, _ in site.runner.signals] == ["pause", "resume", "cancel"]
    await site.jobs.close(CloseInput(RescoreInput(OPERATOR_USER, job["id"], RescoreSpec()), "canceled"))
    assert (await site.call("GET", f"/api/jobs/{job['id']}"))[1]["status"] == "canceled"
    assert (await site.call("POST", f"/api/jobs/{job['id']}/pause"))[0] == 409


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"sources": ["judge"]}, "judgeModel"),
        ({"judgeModel": "sim/large"}, "judgeModel"),
        ({"sources": ["judge"], "judgeModel": "sim/large"}, "judgeBudgetUsd"),
        ({"sources": ["judge"], "judgeModel": "sim/none", "judgeBudgetUsd": 1}, "judgeModel"),
        ({"sources": ["judge"], "judgeModel": "sim/large", "judgeBudgetUsd": 1, "model": "sim/large"}, "judgeModel"),
        ({"routerId": "none"}, "routerId"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"sampleSize": 0}, "sampleSize"),
        ({"sources": ["astrology"]}, "sources[0]"),
        ({"sources": []}, "sources"),
    ],
)
async def test_a_job_that_cannot_work_is_refused(site: Site, body: dict[str, Any], param: str) -> None:
    """A 422 that names the field, before anything is started."""
    status, told = await site.call("POST", "/api/jobs/rescore", body)
    assert (status, told["error"]["param"]) == (422, param)
    assert site.runner.started == []


async def test_a_judge_needs_a_price(site: Site) -> None:
    """No budget can be kept with a model whose price nobody knows."""
    await site.call("PUT", "/api/models/unpriced", {"provider": "simulator", "providerModel": "large"})
    body = {"sources": ["judge"], "judgeModel": "unpriced", "judgeBudgetUsd": 1}
    status, told = await site.call("POST", "/api/jobs/rescore", body)
    assert status == 422
    assert "price" in told["error"]["message"]


async def test_without_temporal_there_is_no_job(site: Site) -> None:
    """A 503, and no row that would be running for ever."""
    site.runner.away = True
    assert (await site.call("POST", "/api/jobs/rescore", {}))[0] == 503
    assert (await site.call("GET", "/api/jobs"))[1]["items"] == []


async def test_jobs_are_for_admins(site: Site) -> None:
    """A key of an application cannot spend on judges."""
    key = await site.key(OPERATOR_USER)
    assert (await site.call("POST", "/api/jobs/rescore", {}, key=key))[0] == 403
    assert (await site.call("GET", "/v1/requests/r1/text", key=key))[0] == 403
