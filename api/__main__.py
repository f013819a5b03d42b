"""The gateway's composition root: HTTP server and routing worker in one process, over the same Temporal client."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import uvloop
from aiohttp import web
from temporalio.client import Client

from activities.decision_steps import DecisionSteps
from activities.flights import FlightController
from activities.health import DeploymentHealth
from activities.inflight import BackgroundTasks, FlightRegistry
from activities.model_calls import ModelCaller
from activities.performance import PerformanceActivities
from activities.providers import ProviderActivities
from activities.recovery import Recovery
from activities.router_cache import RouterCache
from activities.routing import RoutingActivities
from api.answering import SUBMISSIONS
from api.app import create_app
from api.auth import CachedAuthenticator
from api.routes import chat, codec, deployments, embeddings, messages, requests
from api.services import HealthCheck, Services
from api.serving import Gateway, serve
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
from infra.vectors.embedder import ClosableEmbedder, EmbedderConfig, create_embedder
from infra.vectors.hot_index import HotHistory
from infra.vectors.milvus import MilvusHistory
from modelpilot.errors import DependencyUnavailable
from workflows.route_request import RouteRequestWorkflow


@dataclass(frozen=True, slots=True)
class _Adapters:
    """The outside world of one gateway."""

    keyring: Keyring
    database: Database
    client: Client
    health: TemporalHealth
    starter: TemporalStarter
    ledger: PostgresLedger
    leases: PostgresLeases
    milvus: MilvusHistory
    history: HotHistory
    embedder: ClosableEmbedder
    clients: ProviderRegistry
    keys: PostgresApiKeyRepository
    authenticator: CachedAuthenticator
    configuration: RouterCache
    deployments: DeploymentHealth


async def build(settings: Settings, stack: AsyncExitStack) -> Gateway:
    """Connect everything and wire it; what was opened is closed by `stack`, in reverse order."""
    instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    adapters = await _adapters(settings, instance, stack)
    registry, background, draining = FlightRegistry(instance), BackgroundTasks(), asyncio.Event()
    _upkeep(stack, sweep_flights(registry, adapters.starter.open_workflow_ids))
    steps = DecisionSteps(adapters.embedder, adapters.history, health=adapters.deployments)
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
        app[deployments.HEALTH] = adapters.deployments
        app[codec.CODEC] = codec.CodecAccess(EncryptionCodec(adapters.keyring), _ui_origins(settings))
        app[embeddings.EMBEDDINGS] = embeddings.EmbeddingAccess(adapters.configuration, adapters.clients)
        for routes in (chat, messages, embeddings, requests, codec, deployments):
            routes.register(app)

    app = create_app(_services(settings, adapters, draining, register))
    return Gateway(app, worker, registry, controller, background, draining)


def _methods(owner: object) -> list[Callable[..., Any]]:
    """The activities of an activity class, in the order of their definition."""
    names = [name for name, value in vars(type(owner)).items() if hasattr(value, "__temporal_activity_definition")]
    return [getattr(owner, name) for name in names]


async def _adapters(settings: Settings, instance: str, stack: AsyncExitStack) -> _Adapters:
    keyring = Keyring([key.get_secret_value() for key in settings.encryption_keys])
    database = await stack.enter_async_context(Database(_required(settings.database_url, "DATABASE_URL")))
    client = await connect(settings, keyring, instance)
    await ensure_search_attributes(client)
    health = TemporalHealth(client)
    health.start()
    stack.push_async_callback(health.stop)
    ledger = PostgresLedger(database, keyring, retention_hours=settings.result_retention_hours)
    stack.push_async_callback(ledger.close)
    leases = await _lease(settings, database, instance, stack)
    embedder, milvus, history = _history(settings, stack)
    clients = await stack.enter_async_context(ProviderRegistry(_address_rule(settings)))
    keys = PostgresApiKeyRepository(database)
    stack.push_async_callback(keys.close)
    authenticator = CachedAuthenticator(keys)
    source = PostgresConfiguration(database, keyring, provider_endpoints(settings))
    deployments = DeploymentHealth()
    configuration = RouterCache(source, settings.router_cache_seconds, deployments.configuration_changed)
    await _listen(database, configuration, authenticator, stack)
    return _Adapters(
        keyring=keyring,
        database=database,
        client=client,
        health=health,
        starter=TemporalStarter(client, health),
        ledger=ledger,
        leases=leases,
        milvus=milvus,
        history=history,
        embedder=embedder,
        clients=clients,
        keys=keys,
        authenticator=authenticator,
        configuration=configuration,
        deployments=deployments,
    )


def _services(
    settings: Settings, adapters: _Adapters, draining: asyncio.Event, register: Callable[[web.Application], None]
) -> Services:
    database = adapters.database
    return Services(
        authenticator=adapters.authenticator,
        routers=PostgresRouterRepository(database),
        models=PostgresModelRepository(database),
        providers=PostgresProviderRepository(database, adapters.keyring),
        keys=adapters.keys,
        audit=PostgresAuditRepository(database),
        check_base_url=_address_rule(settings).check_url,
        on_change=_dropper(adapters.configuration, adapters.authenticator),
        health_checks=_health_checks(database, adapters.health, adapters.milvus),
        draining=draining.is_set,
        extra_routes=[register],
        cors_origins=frozenset({*settings.cors_origins, *_ui_origins(settings)}),
        max_body_bytes=int(settings.max_body_mb * 1024 * 1024),
        metrics_public=settings.metrics_public,
        environment=settings.env,
    )


async def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is in flight and close everything."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        gateway = await build(settings, stack)
        stopped = await serve(gateway, settings.host, settings.api_port, settings.drain_seconds, stop)
    if not stopped:
        # The lease is released, so others take over at once; only the Temporal worker would still hold us here.
        os._exit(0)


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


def _history(settings: Settings, stack: AsyncExitStack) -> tuple[ClosableEmbedder, MilvusHistory, HotHistory]:
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
    return embedder, milvus, history


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


_SWITCH_INTERVAL_S = 0.0005


def main(settings: Settings) -> None:
    """Run a gateway in this process."""
    # Workflow code runs on threads of its own; with the default of 5 ms each of their turns may delay a request.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(settings))
