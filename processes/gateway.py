"""The gateway's composition root: HTTP server and routing worker in one process, over the same Temporal client."""

import asyncio
import gc
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import uvloop
from aiohttp import web

from activities.requests.call import ModelCaller
from activities.requests.controller import FlightController
from activities.requests.decision import DecisionSteps
from activities.requests.embeddings import EmbeddingCaller
from activities.requests.flight import BackgroundTasks, FlightRegistry
from activities.requests.recovery import Recovery
from activities.requests.steps import PerformanceActivities, ProviderActivities, RoutingActivities
from api.app import create_app
from api.gateway.answer import SUBMISSIONS
from api.gateway.lifecycle import Gateway, serve, sweep_flights
from api.gateway.submit import Submissions
from api.http.registry import add_routes
from api.routes import (
    analytics,
    chat,
    codec,
    embeddings,
    feedback,
    health,
    jobs,
    messages,
    predictors,
    replay,
    requests,
)
from api.services import Services
from infra.db.learning.decision_log import PostgresDecisionLog
from infra.db.learning.feedback import PostgresFeedback
from infra.db.learning.predictors import PostgresPredictors
from infra.db.learning.rescore_jobs import PostgresRescoreJobs
from infra.db.learning.stored_texts import StoredTexts
from infra.db.management.changes import PostgresAuditRepository
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.metrics.analytics import PostgresMetrics
from infra.logs import configure_logging
from infra.providers.environment import address_rule
from infra.settings import Settings, load_settings
from infra.temporal.codec import EncryptionCodec
from infra.temporal.jobs import TemporalJobs, TemporalRefits, TemporalRescoring
from infra.temporal.workers import routing_worker
from processes.gateway_adapters import Adapters, cache_dropper, health_checks, keep_up, open_adapters
from workflows.route_request import RouteRequestWorkflow


async def build(settings: Settings, stack: AsyncExitStack) -> Gateway:
    """Connect everything and wire it; what was opened is closed by `stack`, in reverse order."""
    instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    adapters = await open_adapters(settings, instance, stack)
    registry, background, draining = FlightRegistry(instance), BackgroundTasks(), asyncio.Event()
    keep_up(stack, sweep_flights(registry, adapters.starter.open_workflow_ids))
    steps = DecisionSteps(
        adapters.embedder, adapters.history, health=adapters.deployments, predictors=adapters.predictors
    )
    caller = ModelCaller(adapters.clients, adapters.configuration, adapters.deployments)
    controller = FlightController(caller, adapters.ledger, background, adapters.keyring.mac)
    recovery = Recovery(registry, controller, adapters.ledger, adapters.leases)
    performance = PerformanceActivities(registry, controller, recovery, steps, adapters.history, adapters.ledger)
    providers = ProviderActivities(registry, controller, recovery, adapters.ledger)
    activities = [*_methods(RoutingActivities(registry)), *_methods(providers), *_methods(performance)]
    worker = routing_worker(adapters.client, [RouteRequestWorkflow], activities, settings.max_in_flight)
    submissions = Submissions(
        configuration=adapters.configuration,
        steps=steps,
        controller=controller,
        registry=registry,
        ledger=adapters.ledger,
        starter=adapters.starter,
        background=background,
        mac=adapters.keyring.mac,
        max_in_flight=settings.max_in_flight,
    )

    def register(app: web.Application) -> None:
        app[SUBMISSIONS], app[requests.REGISTRY] = submissions, registry
        app[requests.LEDGER], app[requests.STARTER] = adapters.ledger, adapters.starter
        app[health.HEALTH] = adapters.deployments
        health.publish(adapters.deployments)
        app[codec.CODEC] = codec.CodecAccess(EncryptionCodec(adapters.keyring), _ui_origins(settings))
        embedder = EmbeddingCaller(adapters.clients, adapters.configuration, adapters.deployments)
        app[embeddings.EMBEDDINGS] = embeddings.EmbeddingAccess(adapters.configuration, embedder)
        _set_learning(app, adapters)
        analytics.register(app, PostgresMetrics(adapters.database))
        add_routes(app, health.deployment_routes())
        for module in (chat, messages, embeddings, requests, codec, feedback, jobs, predictors, replay):
            add_routes(app, module.routes())

    app = create_app(_services(settings, adapters, draining, register))
    return Gateway(app, worker, registry, controller, background, draining)


def _set_learning(app: web.Application, adapters: Adapters) -> None:
    """What is learnt after an answer: feedback, stored texts, batch jobs, predictors, logged decisions."""
    database, client = adapters.database, adapters.client
    app[feedback.FEEDBACK] = PostgresFeedback(database, adapters.keyring)
    app[feedback.TEXTS] = StoredTexts(database, adapters.keyring)
    app[jobs.RESCORE_JOBS], app[jobs.JOB_RUNNER] = PostgresRescoreJobs(database), TemporalRescoring(client)
    app[jobs.AGGREGATIONS] = TemporalJobs(client)
    app[predictors.LEARNING] = predictors.Learning(PostgresPredictors(database), TemporalRefits(client))
    app[replay.REPLAY] = replay.ReplayAccess(adapters.configuration, PostgresDecisionLog(database))


def _methods(owner: object) -> list[Callable[..., Any]]:
    """The activities of an activity class, in the order of their definition."""
    names = [name for name, value in vars(type(owner)).items() if hasattr(value, "__temporal_activity_definition")]
    return [getattr(owner, name) for name in names]


def _services(
    settings: Settings, adapters: Adapters, draining: asyncio.Event, register: Callable[[web.Application], None]
) -> Services:
    database = adapters.database
    return Services(
        authenticator=adapters.authenticator,
        routers=PostgresRouterRepository(database),
        models=PostgresModelRepository(database),
        providers=PostgresProviderRepository(database, adapters.keyring),
        keys=adapters.keys,
        audit=PostgresAuditRepository(database),
        check_base_url=address_rule(settings).check_url,
        on_change=cache_dropper(adapters.configuration, adapters.authenticator),
        health_checks=health_checks(database, adapters.health, adapters.milvus),
        draining=draining.is_set,
        extra_routes=[register],
        cors_origins=frozenset({*settings.cors_origins, *_ui_origins(settings)}),
        max_body_bytes=int(settings.max_body_mb * 1024 * 1024),
        metrics_public=settings.metrics_public,
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
        stopped = await serve(gateway, settings.host, settings.api_port, settings.drain_seconds, stop)
    if not stopped:
        # The lease is released, so others take over at once; only the Temporal worker would still hold us here.
        os._exit(0)


def _ui_origins(settings: Settings) -> tuple[str, ...]:
    """Pages of the embedded Web UI, which only a development machine has."""
    if settings.production:
        return ()
    return tuple(f"http://{host}:{settings.temporal_ui_port}" for host in ("127.0.0.1", "localhost"))


_SWITCH_INTERVAL_S = 0.0005


def command() -> None:
    """Serve the HTTP API until SIGINT or SIGTERM; then finish what is in flight."""
    settings = load_settings()
    configure_logging(settings.log_level)
    # Workflow code runs on threads of its own; with the default of 5 ms each of their turns may delay a request.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))
