"""The gateway's composition root: HTTP server and routing worker in one process, over the same Temporal client."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import structlog
import uvloop
from aiohttp import web
from temporalio.worker import Worker

from activities.decision_steps import DecisionSteps
from activities.flights import FlightController
from activities.inflight import BackgroundTasks, FlightRegistry
from activities.model_calls import ModelCaller
from activities.performance import PerformanceActivities
from activities.providers import ProviderActivities
from activities.recovery import Recovery
from activities.router_cache import RouterCache
from activities.routing import RoutingActivities
from api.app import create_app
from api.auth import CachedAuthenticator
from api.routes import chat, codec, requests
from api.services import HealthCheck, Services
from api.submissions import Submissions
from api.upkeep import keep_lease, sweep_flights
from infra.crypto.keyring import Keyring
from infra.db.configuration import PostgresConfiguration
from infra.db.engine import Database
from infra.db.leases import PostgresLeases
from infra.db.ledger import PostgresLedger
from infra.db.notifications import ConfigurationListener
from infra.db.repositories.api_keys import PostgresApiKeyRepository
from infra.db.repositories.audit import PostgresAuditRepository
from infra.db.repositories.models import PostgresModelRepository
from infra.db.repositories.providers import PostgresProviderRepository
from infra.db.repositories.routers import PostgresRouterRepository
from infra.environment import provider_endpoints
from infra.providers.addresses import AddressRule
from infra.providers.registry import ProviderRegistry
from infra.settings import ConfigurationError, Settings
from infra.temporal.client import connect, ensure_search_attributes
from infra.temporal.codec import EncryptionCodec
from infra.temporal.health import TemporalHealth
from infra.temporal.starter import TemporalStarter
from infra.temporal.workers import routing_worker
from infra.vectors.embedder import EmbedderConfig, create_embedder
from infra.vectors.hot_index import HotHistory
from infra.vectors.milvus import MilvusHistory
from modelpilot.errors import DependencyUnavailable
from workflows.route_request import RouteRequestWorkflow

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Gateway:
    """The parts of one gateway that others need to reach."""

    app: web.Application
    worker: Worker
    registry: FlightRegistry
    background: BackgroundTasks
    draining: asyncio.Event


async def build(settings: Settings, stack: AsyncExitStack) -> Gateway:
    """Connect everything and wire it; what was opened is closed by `stack`, in reverse order."""
    instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    keyring = Keyring([key.get_secret_value() for key in settings.encryption_keys])
    database = await stack.enter_async_context(Database(_required(settings.database_url, "DATABASE_URL")))
    client = await connect(settings, keyring, instance)
    await ensure_search_attributes(client)
    health = TemporalHealth(client)
    health.start()
    stack.push_async_callback(health.stop)
    starter = TemporalStarter(client, health)
    ledger = PostgresLedger(database, keyring, retention_hours=settings.result_retention_hours)
    stack.push_async_callback(ledger.close)
    leases = await _lease(settings, database, instance, stack)
    milvus, history, steps = await _history(settings, stack)
    clients = await stack.enter_async_context(ProviderRegistry(_address_rule(settings)))

    source = PostgresConfiguration(database, keyring, provider_endpoints(settings))
    configuration = RouterCache(source, settings.router_cache_seconds)
    keys = PostgresApiKeyRepository(database)
    stack.push_async_callback(keys.close)
    authenticator = CachedAuthenticator(keys)
    await _listen(database, configuration, authenticator, stack)

    registry, background = FlightRegistry(instance), BackgroundTasks()
    caller = ModelCaller(clients, configuration)
    controller = FlightController(caller, ledger, background, keyring.mac)
    recovery = Recovery(registry, controller, ledger, leases)
    _upkeep(stack, sweep_flights(registry, starter.open_workflow_ids))
    routing = RoutingActivities(registry)
    providers = ProviderActivities(registry, controller, recovery, ledger)
    performance = PerformanceActivities(registry, controller, recovery, steps, history, ledger)
    activities: list[Callable[..., Any]] = [
        routing.load_router,
        routing.embed_prompt,
        routing.query_history,
        routing.score_models,
        providers.call_provider,
        providers.call_fallback,
        performance.store_performance,
    ]
    worker = routing_worker(client, [RouteRequestWorkflow], activities, settings.max_in_flight)
    submissions = Submissions(
        configuration=configuration,
        steps=steps,
        controller=controller,
        registry=registry,
        ledger=ledger,
        starter=starter,
        background=background,
        mac=keyring.mac,
        max_in_flight=settings.max_in_flight,
    )
    draining = asyncio.Event()

    def register(app: web.Application) -> None:
        app[chat.SUBMISSIONS] = submissions
        app[requests.LEDGER], app[requests.REGISTRY], app[requests.STARTER] = ledger, registry, starter
        app[codec.CODEC] = codec.CodecAccess(EncryptionCodec(keyring), _ui_origins(settings))
        for routes in (chat, requests, codec):
            routes.register(app)

    app = create_app(
        Services(
            authenticator=authenticator,
            routers=PostgresRouterRepository(database),
            models=PostgresModelRepository(database),
            providers=PostgresProviderRepository(database, keyring),
            keys=keys,
            audit=PostgresAuditRepository(database),
            check_base_url=_address_rule(settings).check_url,
            on_change=_dropper(configuration, authenticator),
            health_checks=_health_checks(database, health, milvus),
            draining=draining.is_set,
            extra_routes=[register],
            cors_origins=frozenset({*settings.cors_origins, *_ui_origins(settings)}),
            max_body_bytes=int(settings.max_body_mb * 1024 * 1024),
            metrics_public=settings.metrics_public,
            environment=settings.env,
        )
    )
    return Gateway(app, worker, registry, background, draining)


async def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in flight and close everything."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        gateway = await build(settings, stack)
        working = asyncio.create_task(gateway.worker.run())
        runner = web.AppRunner(
            gateway.app,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            shutdown_timeout=settings.drain_seconds,
        )
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.api_port).start()
        log.info("gateway_listening", url=settings.api_url, instance=gateway.registry.instance)
        await asyncio.wait({working, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        await _drain(gateway, runner, working, settings.drain_seconds)


async def _drain(gateway: Gateway, runner: web.AppRunner, working: "asyncio.Task[None]", drain_s: float) -> None:
    """Readiness fails, requests in flight finish, their workflows close, then the worker goes."""
    gateway.draining.set()
    deadline = asyncio.get_running_loop().time() + drain_s
    await _until(lambda: gateway.registry.active == 0, deadline)
    await runner.cleanup()
    await _until(lambda: gateway.registry.unstored == 0, deadline)
    await gateway.background.drain(1.0)
    if working.done():
        await working  # a worker that ended by itself says why
    await gateway.worker.shutdown()
    await asyncio.gather(working, return_exceptions=True)


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    # Polled: an event on every change of the registry would sit on the request path.
    while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_DRAIN_POLL_S)


_DRAIN_POLL_S = 0.05


def _required(value: str | None, name: str) -> str:
    if value is None:
        raise ConfigurationError([f"MODELPILOT_{name}: is not set; `modelpilot up` starts the service and sets it"])
    return value


async def _lease(settings: Settings, database: Database, instance: str, stack: AsyncExitStack) -> PostgresLeases:
    leases = PostgresLeases(database, lease_seconds=settings.lease_seconds)
    await leases.register(instance, socket.gethostname())

    async def release() -> None:
        with suppress(DependencyUnavailable):  # then the lease runs out by itself
            await leases.release(instance)

    stack.push_async_callback(release)
    _upkeep(stack, keep_lease(leases, instance, socket.gethostname(), settings.heartbeat_seconds))
    return leases


async def _history(settings: Settings, stack: AsyncExitStack) -> tuple[MilvusHistory, HotHistory, DecisionSteps]:
    embedder = create_embedder(EmbedderConfig())
    stack.push_async_callback(embedder.close)
    milvus = MilvusHistory(
        _required(settings.milvus_uri, "MILVUS_URI"),
        embedder=embedder.name,
        dimension=embedder.dimension,
        token=settings.milvus_token.get_secret_value() if settings.milvus_token else "",
        deadline_ms=settings.vector_deadline_ms,
    )
    stack.push_async_callback(milvus.close)
    history = HotHistory(milvus)
    stack.push_async_callback(history.close)
    return milvus, history, DecisionSteps(embedder, history)


async def _listen(
    database: Database, configuration: RouterCache, authenticator: CachedAuthenticator, stack: AsyncExitStack
) -> None:
    drop = _dropper(configuration, authenticator)
    listener = ConfigurationListener(database.url, lambda kind, user="", subject="": drop(kind, user, subject))
    await listener.start()
    stack.push_async_callback(listener.stop)


def _dropper(configuration: RouterCache, authenticator: CachedAuthenticator) -> Callable[[str | None, str, str], None]:
    def drop(kind: str | None, user_id: str, subject: str) -> None:
        if kind in (None, "api_key", "user"):
            authenticator.drop(subject if kind == "api_key" else None)
        if kind != "api_key":
            configuration.drop(kind, user_id, subject)

    return drop


def _upkeep(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)


def _health_checks(database: Database, health: TemporalHealth, milvus: MilvusHistory) -> list[HealthCheck]:
    async def temporal() -> None:
        if not await health.probe():
            health.check_up()

    return [
        HealthCheck("postgres", database.ping),
        HealthCheck("temporal", temporal),
        HealthCheck("milvus", milvus.ping, required=False),
    ]


def _address_rule(settings: Settings) -> AddressRule:
    return AddressRule.of(allow_internal=not settings.production, private_hosts=settings.private_provider_hosts)


def _ui_origins(settings: Settings) -> tuple[str, ...]:
    """Pages of the embedded Web UI, which only a development machine has."""
    if settings.production:
        return ()
    return tuple(f"http://{host}:{settings.temporal_ui_port}" for host in ("127.0.0.1", "localhost"))


def main(settings: Settings) -> None:
    """Run a gateway in this process."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))
