"""The gateway's composition root: the HTTP server, and a worker for fallbacks that stream into its open answers."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import structlog
import uvloop
from aiohttp import web

from activities.jobs.erasure import RequestErasure
from activities.requests.acceptance import Acceptance
from activities.requests.call import ModelCaller
from activities.requests.controller import FlightController
from activities.requests.decision import DecisionSteps
from activities.requests.embeddings import EmbeddingCaller
from activities.requests.fallback import Fallbacks
from activities.requests.flight import BackgroundTasks, FlightRegistry
from activities.requests.recovery import Recovery
from activities.requests.steps import ProviderActivities
from api.app import create_app
from api.gateway.admission import Admission, AdmissionLimits
from api.gateway.answer import SUBMISSIONS
from api.gateway.lifecycle import Gateway, serve
from api.gateway.submit import Submissions
from api.http.connections import ConnectionLimits
from api.http.registry import add_routes
from api.routes import (
    analytics,
    chat,
    codec,
    completions,
    embeddings,
    erasing,
    feedback,
    gemini,
    health,
    jobs,
    management,
    messages,
    predictors,
    replay,
    requests,
    responses,
)
from api.services import Services
from infra.crypto.keyring import Keyring
from infra.crypto.reasoning import SealedReasoning
from infra.db.learning.decision_log import PostgresDecisionLog
from infra.db.learning.feedback import PostgresFeedback
from infra.db.learning.predictors import PostgresPredictors
from infra.db.learning.rescore_jobs import PostgresRescoreJobs
from infra.db.learning.stored_texts import StoredTexts
from infra.db.learning.token_reports import PostgresTokenReports
from infra.db.management.changes import PostgresAuditRepository, PostgresHealthResets
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.metrics.analytics import PostgresMetrics
from infra.db.metrics.dimensions import PostgresDimensions
from infra.db.requests.deployment_states import PostgresDeploymentStates
from infra.db.requests.erasures import PostgresErasures
from infra.local.data_dir import DataDir
from infra.logs import configure_logging
from infra.providers.environment import address_rule, provider_endpoints
from infra.settings import Settings, load_settings
from infra.temporal.client import connect
from infra.temporal.codec import EncryptionCodec
from infra.temporal.jobs import TemporalErasures, TemporalJobs, TemporalRefits, TemporalRescoring
from infra.temporal.workers import gateway_worker
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.prompt_caches import PromptCaches
from modelpilot.providers.token_ratios import TokenRatios
from modelpilot.requests.records import Backlog
from processes.gateway_adapters import Adapters, cache_dropper, health_checks, open_adapters
from processes.parts import instance_name, keep_up, listening, recall_ratios, require

log = structlog.get_logger(__name__)

_MIB = 1024 * 1024
# As often as the site and other gateways hear what this one skips, where that has changed.
_TELL_EVERY_S = 2.0


_ROUTES = (
    chat,
    completions,
    messages,
    responses,
    gemini,
    embeddings,
    requests,
    codec,
    feedback,
    erasing,
    jobs,
    predictors,
    replay,
)


async def build(settings: Settings, stack: AsyncExitStack) -> Gateway:
    """Wire everything, waiting for no service; what was opened is closed by `stack`, in reverse order."""
    instance = instance_name("gateway")
    adapters = await open_adapters(settings, instance, stack)
    registry, background, draining = FlightRegistry(instance), BackgroundTasks(), asyncio.Event()
    caches, ratios = PromptCaches(), TokenRatios()
    states = PostgresDeploymentStates(adapters.database, instance)
    keep_up(stack, states.keep(adapters.deployments.skipped, _TELL_EVERY_S))
    keep_up(stack, recall_ratios(ratios, PostgresTokenReports(adapters.database)))
    steps = DecisionSteps(
        adapters.embedder,
        adapters.history,
        health=adapters.deployments,
        predictors=adapters.predictors,
        caches=caches,
        ratios=ratios,
    )
    caller = ModelCaller(adapters.clients, adapters.configuration, adapters.deployments, caches=caches, ratios=ratios)
    fallbacks = Fallbacks(caller, adapters.ledger)
    acceptance = Acceptance(adapters.ledger, adapters.postgres, adapters.workflows, background)
    controller = FlightController(
        registry=registry,
        caller=caller,
        fallbacks=fallbacks,
        acceptance=acceptance,
        ledger=adapters.ledger,
        leases=adapters.leases,
        workflows=adapters.workflows,
        background=background,
        mac=adapters.keyring.mac,
        learn=adapters.history.learn,
    )
    recovery = Recovery(instance, caller, steps, adapters.ledger, adapters.leases, adapters.keyring.mac)
    providers = ProviderActivities(recovery, fallbacks, controller)
    keep_up(stack, _keep_worker(settings, adapters.keyring, instance, [providers.call_fallback]))
    submissions = Submissions(
        configuration=adapters.configuration,
        steps=steps,
        controller=controller,
        acceptance=acceptance,
        registry=registry,
        ledger=adapters.ledger,
        mac=adapters.keyring.mac,
    )

    register = partial(
        _register,
        settings=settings,
        adapters=adapters,
        submissions=submissions,
        registry=registry,
        background=background,
        states=states,
    )
    services = _services(settings, adapters, draining, register)
    services.admission.backlog = lambda: adapters.postgres.seen
    app = create_app(services)
    return Gateway(app, registry, controller, background, draining)


def _register(
    app: web.Application,
    *,
    settings: Settings,
    adapters: Adapters,
    submissions: Submissions,
    registry: FlightRegistry,
    background: BackgroundTasks,
    states: PostgresDeploymentStates,
) -> None:
    app[management.STATES] = states
    app[SUBMISSIONS], app[requests.REGISTRY], app[requests.LEDGER] = submissions, registry, adapters.ledger
    app[health.HEALTH], app[health.RESETS] = adapters.deployments, PostgresHealthResets(adapters.database)
    health.publish(adapters.deployments)
    app[codec.CODEC] = codec.CodecAccess(EncryptionCodec(adapters.keyring), _ui_origins(settings))
    embedder = EmbeddingCaller(
        adapters.clients,
        adapters.configuration,
        adapters.deployments,
        ledger=adapters.ledger,
        mac=adapters.keyring.mac,
        background=background,
    )
    app[embeddings.EMBEDDINGS] = embeddings.EmbeddingAccess(adapters.configuration, embedder)
    _set_learning(app, adapters)
    app[responses.RESPONSES] = adapters.responses
    app[responses.REASONING] = SealedReasoning(adapters.keyring)
    analytics.register(app, PostgresMetrics(adapters.database), PostgresDimensions(adapters.database))
    add_routes(app, health.deployment_routes())
    for module in _ROUTES:
        add_routes(app, module.routes())


async def _keep_worker(
    settings: Settings, keyring: Keyring, instance: str, activities: Sequence[Callable[..., Any]]
) -> None:
    """Work on this gateway's own queue until canceled, whenever Temporal is there."""
    while True:
        try:
            client = await connect(settings, keyring, instance)
            await gateway_worker(client, instance, activities).run()
        except (DependencyUnavailable, RuntimeError) as error:
            log.warning("gateway_worker_waits", error=str(error))
            await asyncio.sleep(1.0)


def _set_learning(app: web.Application, adapters: Adapters) -> None:
    """What is learnt after an answer: feedback, stored texts, batch jobs, predictors, logged decisions."""
    database, client = adapters.database, adapters.client
    app[feedback.FEEDBACK] = PostgresFeedback(database, adapters.keyring)
    app[feedback.TEXTS] = StoredTexts(database, adapters.keyring)
    app[jobs.RESCORE_JOBS], app[jobs.JOB_RUNNER] = PostgresRescoreJobs(database), TemporalRescoring(client)
    app[jobs.AGGREGATIONS] = TemporalJobs(client)
    erasures, temporal = PostgresErasures(database, adapters.keyring), TemporalErasures(client)
    app[erasing.ERASING] = erasing.Erasing(erasures, temporal, RequestErasure(erasures, temporal))
    app[predictors.LEARNING] = predictors.Learning(PostgresPredictors(database), TemporalRefits(client))
    app[replay.REPLAY] = replay.ReplayAccess(adapters.configuration, PostgresDecisionLog(database))


def _services(
    settings: Settings,
    adapters: Adapters,
    draining: asyncio.Event,
    register: Callable[[web.Application], None],
) -> Services:
    database = adapters.database
    return Services(
        authenticator=adapters.authenticator,
        routers=PostgresRouterRepository(database),
        models=PostgresModelRepository(database),
        providers=PostgresProviderRepository(database, adapters.keyring),
        keys=adapters.keys,
        audit=PostgresAuditRepository(database),
        aliases=adapters.configuration.aliases,
        check_base_url=address_rule(settings).check_url,
        configured=provider_endpoints(settings),
        on_change=cache_dropper(adapters.configuration, adapters.authenticator),
        health_checks=health_checks(adapters.postgres, adapters.health, adapters.milvus),
        draining=draining.is_set,
        details=lambda: _details(adapters.postgres.seen),
        extra_routes=[register],
        cors_origins=frozenset({*settings.cors_origins, *_ui_origins(settings)}),
        max_body_bytes=int(settings.max_body_mb * _MIB),
        admission=Admission(_admission_limits(settings)),
        connections=ConnectionLimits(
            keep_alive_s=settings.keep_alive_seconds, descriptors_in_use=settings.max_in_flight
        ),
        metrics_public=settings.metrics_public,
        site_url=settings.site_url,
    )


def _details(backlog: Backlog) -> dict[str, float]:
    return {"backlog": backlog.rows, "backlogAgeSeconds": round(backlog.age_s, 3)}


def _admission_limits(settings: Settings) -> AdmissionLimits:
    return AdmissionLimits(
        in_flight=settings.max_in_flight,
        waiting=settings.max_waiting,
        backlog=settings.max_backlog,
        body_bytes=int(settings.max_bodies_mb * _MIB),
    )


async def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in flight and close everything."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        gateway = await build(settings, stack)
        # What there is now stays until the end. Collected over and over, it would stop every request for 0.1 s a time.
        gc.collect()
        gc.freeze()
        await serve(gateway, settings.host, settings.api_port, settings.drain_seconds, stop)


def _ui_origins(settings: Settings) -> tuple[str, ...]:
    """Pages of the embedded Web UI, which only a development machine has."""
    if settings.production:
        return ()
    return tuple(f"http://{host}:{settings.temporal_ui_port}" for host in ("127.0.0.1", "localhost", "[::1]"))


_SWITCH_INTERVAL_S = 0.0005


def command() -> None:
    """Serve the HTTP API until SIGINT or SIGTERM; then finish what is in flight."""
    settings = load_settings()
    require(settings, ("database_url", "temporal_address", "milvus_uri", "encryption_keys"))
    DataDir(settings.data_dir).check_place()
    configure_logging(settings.log_level)
    # Workflow code runs on threads of its own; with the default of 5 ms each of their turns may delay a request.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with (
        listening(settings.host, settings.api_port, "MODELPILOT_HOST", "MODELPILOT_API_PORT"),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(run(settings))
