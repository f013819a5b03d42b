"""What a gateway is made of: every adapter to the outside world, opened and closed in order."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from temporalio.client import Client

from activities.requests.caches import PredictorCache, RouterCache
from activities.requests.deployments import DeploymentHealth
from api.http.auth import CachedAuthenticator
from api.services import HealthCheck
from infra.catalogue.basis import features_for
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.health import PostgresHealth
from infra.db.learning.learners import PostgresLearners
from infra.db.learning.predictors import PostgresPredictors
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.requests.leases import PostgresLeases
from infra.db.requests.ledger import PostgresLedger
from infra.db.requests.open_requests import OpenRequests
from infra.db.requests.responses import PostgresResponses
from infra.db.routing.configuration import PostgresConfiguration
from infra.db.routing.notifications import ConfigurationListener
from infra.providers.clients import ProviderRegistry
from infra.providers.environment import address_rule, provider_endpoints, proxy_rule
from infra.settings import ConfigurationError, Settings
from infra.temporal.client import lazy_client
from infra.temporal.first_task import TemporalFirstTasks
from infra.temporal.health import TemporalHealth
from infra.temporal.starter import TemporalRequests
from infra.vectors.embedders import ClosableEmbedder, EmbedderConfig, create_embedder
from infra.vectors.hot_history import HotHistory
from infra.vectors.milvus import MilvusHistory
from modelpilot.chat.tokens import tokenizer
from modelpilot.errors import DependencyUnavailable
from modelpilot.management.resources import HealthScope
from modelpilot.requests.records import HistoryScope
from processes.parts import keep_up, open_leases, open_ledger


@dataclass(frozen=True, slots=True)
class Adapters:
    """The outside world of one gateway."""

    keyring: Keyring
    database: Database
    client: Client
    health: TemporalHealth
    workflows: TemporalRequests
    postgres: PostgresHealth
    ledger: PostgresLedger
    responses: PostgresResponses
    leases: PostgresLeases
    milvus: MilvusHistory
    history: HotHistory
    embedder: ClosableEmbedder
    clients: ProviderRegistry
    keys: PostgresApiKeyRepository
    authenticator: CachedAuthenticator
    configuration: RouterCache
    deployments: DeploymentHealth
    predictors: PredictorCache


async def open_adapters(settings: Settings, instance: str, stack: AsyncExitStack) -> Adapters:
    """Connect to everything; `stack` closes it. Raises ConfigurationError, DependencyUnavailable."""
    keyring = Keyring(settings.encryption_key_texts)
    database = await stack.enter_async_context(Database(_required(settings.database_url, "DATABASE_URL")))
    client = await lazy_client(settings, keyring, instance)
    health, postgres = TemporalHealth(client), PostgresHealth(OpenRequests(database, keyring, instance))
    health.start()
    stack.push_async_callback(health.stop)
    keep_up(stack, postgres.watch())
    ledger = open_ledger(settings, database, keyring, stack, on_commit=postgres.wrote)
    responses = PostgresResponses(database, keyring, retention_hours=settings.result_retention_hours)
    stack.push_async_callback(responses.close)
    leases = await open_leases(settings, database, instance, stack)
    embedder, milvus, history = _history(settings, stack)
    clients = await stack.enter_async_context(ProviderRegistry(address_rule(settings), proxies=proxy_rule(settings)))
    keys = PostgresApiKeyRepository(database)
    stack.push_async_callback(keys.close)
    authenticator = CachedAuthenticator(keys)
    source = PostgresConfiguration(database, keyring, provider_endpoints(settings))
    deployments = DeploymentHealth()
    configuration = RouterCache(source, settings.router_cache_seconds, deployments.configuration_changed)
    learners = PostgresLearners(database, features_for(embedder.name))
    predictors = PredictorCache(PostgresPredictors(database), learners)
    stack.push_async_callback(predictors.close)
    await _listen(database, configuration, authenticator, predictors, deployments, history, stack)
    return Adapters(
        keyring=keyring,
        database=database,
        client=client,
        health=health,
        workflows=TemporalRequests(client, TemporalFirstTasks(client, keyring, health), health),
        postgres=postgres,
        ledger=ledger,
        responses=responses,
        leases=leases,
        milvus=milvus,
        history=history,
        embedder=embedder,
        clients=clients,
        keys=keys,
        authenticator=authenticator,
        configuration=configuration,
        deployments=deployments,
        predictors=predictors,
    )


def _required(value: str | None, name: str) -> str:
    if value is None:
        raise ConfigurationError([f"MODELPILOT_{name}: is not set; `modelpilot up` starts the service and sets it"])
    return value


def _history(settings: Settings, stack: AsyncExitStack) -> tuple[ClosableEmbedder, MilvusHistory, HotHistory]:
    tokenizer()  # at the start, like the embedder, and not behind the first request
    embedder = create_embedder(EmbedderConfig())
    stack.push_async_callback(embedder.close)
    milvus = MilvusHistory(
        _required(settings.milvus_uri, "MILVUS_URI"),
        embedder=embedder.name,
        dimension=embedder.dimension,
        token=settings.milvus_token_text,
        deadline_ms=settings.vector_deadline_ms,
    )
    stack.push_async_callback(milvus.close)
    history = HotHistory(milvus)
    stack.push_async_callback(history.close)
    return embedder, milvus, history


async def _listen(
    database: Database,
    configuration: RouterCache,
    authenticator: CachedAuthenticator,
    predictors: PredictorCache,
    deployments: DeploymentHealth,
    history: HotHistory,
    stack: AsyncExitStack,
) -> None:
    drop = cache_dropper(configuration, authenticator)

    def heard(kind: str | None, user_id: str = "", subject: str = "") -> None:
        if kind in (None, "predictor"):
            predictors.announced(user_id, subject)
        if kind == "history":
            history.forget(user_id, "" if subject == "*" else subject)
            predictors.forget(user_id, None if subject == "*" else subject)
        elif kind == "recount":
            history.drop(HistoryScope(user_id, subject))
            predictors.forget(user_id, subject)
        elif kind == "health":
            deployments.reset(user_id, HealthScope.of(subject))
        elif kind not in ("predictor", "request", "erasure"):
            drop(kind, user_id, subject)

    listener = ConfigurationListener(database.url, heard)
    await listener.start()
    stack.push_async_callback(listener.stop)


def cache_dropper(
    configuration: RouterCache, authenticator: CachedAuthenticator
) -> Callable[[str | None, str, str], None]:
    """Drops what this process remembers of a changed thing (kind, owner, id); kind None: of everything."""

    def drop(kind: str | None, user_id: str, subject: str) -> None:
        if kind in (None, "api_key", "user"):
            authenticator.drop(subject if kind == "api_key" else None)
        if kind != "api_key":
            configuration.drop(kind, user_id, subject)

    return drop


def health_checks(postgres: PostgresHealth, health: TemporalHealth, milvus: MilvusHistory) -> list[HealthCheck]:
    """What `/readyz` asks: a gateway serves as long as Postgres or Temporal accepts requests."""

    async def database() -> None:
        if not await postgres.probe():
            raise DependencyUnavailable("Postgres takes no writes")

    async def temporal() -> None:
        if not await health.probe():
            raise DependencyUnavailable("Temporal does not answer")

    return [
        HealthCheck("postgres", database),
        HealthCheck("temporal", temporal),
        HealthCheck("milvus", milvus.ping, required=False),
    ]
