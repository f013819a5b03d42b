"""An application over real Postgres with feedback, stored texts and jobs; Temporal is a fake."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient

from activities.jobs.erasure import RequestErasure
from api.app import create_app
from api.http.auth import CachedAuthenticator
from api.http.registry import add_routes
from api.routes import erasing, feedback, jobs, requests
from api.services import Services
from infra.catalogue.seed import seed_models
from infra.db.engine import Database
from infra.db.learning.feedback import PostgresFeedback
from infra.db.learning.rescore_jobs import PostgresRescoreJobs
from infra.db.learning.stored_texts import StoredTexts
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.changes import PostgresAuditRepository
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import ensure_operator, seed_catalogue
from infra.db.requests.erasures import PostgresErasures
from infra.db.requests.ledger import PostgresLedger
from modelpilot.errors import DependencyUnavailable, NotFound
from modelpilot.learning.rescoring import RescoreInput
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.metrics.jobs import Job, JobProgress, new_job_id
from modelpilot.requests.erasure import EraseInput
from modelpilot.requests.records import RequestKey
from tests.support.management_fakes import bearer
from tests.support.samples import keyring, outcome, record

MakeClient = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]
PROMPT, ANSWER = "a-secret-prompt", "a-secret-answer"
BODY = {"messages": [{"role": "user", "content": PROMPT}]}


@dataclass
class FakeJobs:
    """Aggregations in Temporal; without a worker nobody knows how far they are."""

    begun: dict[str, str] = field(default_factory=dict)
    worker: bool = True

    async def start_aggregation(self, user_id: str) -> Job:
        """See modelpilot.metrics.jobs.Jobs."""
        job_id = new_job_id("aggregate")
        self.begun[job_id] = user_id
        return Job(job_id, "running", JobProgress(), 1_000.0)

    async def find(self, user_id: str, job_id: str) -> Job:
        """See modelpilot.metrics.jobs.Jobs."""
        if self.begun.get(job_id) != user_id:
            raise NotFound("There is no such job.")
        return Job(job_id, "completed", JobProgress(3, 3) if self.worker else None, 1_000.0, 1_002.0)


@dataclass
class FakeRunner:
    """Temporal, as far as the API sees it."""

    started: list[RescoreInput] = field(default_factory=list)
    signals: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    async def start(self, job: RescoreInput) -> None:
        """Note the job, unless Temporal is away."""
        if self.away:
            raise DependencyUnavailable("Temporal did not acknowledge in time", retry_after_s=2.0)
        self.started.append(job)

    async def pause(self, workflow_id: str) -> None:
        """Note the signal."""
        self.signals.append(("pause", workflow_id))

    async def resume(self, workflow_id: str) -> None:
        """Note the signal."""
        self.signals.append(("resume", workflow_id))

    async def cancel(self, workflow_id: str) -> None:
        """Note the signal."""
        self.signals.append(("cancel", workflow_id))


class FakeErasing:
    """Temporal, as far as erasing sees it: away, so that a worker has to start what is promised."""

    async def start(self, job: EraseInput) -> None:
        """See modelpilot.requests.erasure.ErasureRunner."""
        raise DependencyUnavailable("Temporal did not acknowledge in time", retry_after_s=2.0)

    async def forget(self, key: RequestKey) -> None:
        """See modelpilot.requests.erasure.Histories."""


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
    aggregations: FakeJobs

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        response = await self.client.request(method, path, json=body, headers=bearer(key or self.admin))
        return response.status, await response.json() if await response.read() else None

    async def key(self, user: str, **fields: Any) -> str:
        """A new API key of a user."""
        body = {"userId": user, "scopes": ["route"], **fields}
        return str((await self.call("POST", "/api/keys", body))[1]["key"])

    async def add(self, name: str, *, stored: bool = False, **changes: Any) -> RequestKey:
        """An answered request of the operator."""
        answer = {"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}
        made = record(OPERATOR_USER, name, outcome=outcome(quality=None, answer=answer, **changes))
        await self.ledger.record(replace(made, stored_body=BODY if stored else None))
        return made.key


@asynccontextmanager
async def learning_site(url: str, aiohttp_client: MakeClient) -> AsyncIterator[Site]:
    """The application, seeded, with the operator's key."""
    ring, runner, aggregations = keyring(), FakeRunner(), FakeJobs()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(url))
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
            app[jobs.AGGREGATIONS] = aggregations
            erasures, temporal = PostgresErasures(database, ring), FakeErasing()
            app[erasing.ERASING] = erasing.Erasing(erasures, temporal, RequestErasure(erasures, temporal))
            add_routes(app, [*feedback.routes(), *erasing.routes(), *jobs.routes()])

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
        yield Site(client, database, ledger, stored, runner, secret or "", url, aggregations)
