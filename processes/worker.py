"""`modelpilot worker`: the workers for requests that last and for maintenance, a composition root of their own."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.jobs.aggregation import AggregationActivities
from activities.jobs.erasure import EraseActivities, keep_erasing
from activities.jobs.housekeeping import MaintenanceActivities, keep_regrading
from activities.jobs.judge import ROUND_S, JudgeActivities
from activities.jobs.refit import RefitActivities
from activities.jobs.rescoring import RescoreActivities
from activities.requests.call import ModelCaller
from activities.requests.decision import DecisionSteps
from activities.requests.fallback import Fallbacks
from activities.requests.recovery import Recovery
from activities.requests.steps import PerformanceActivities, ProviderActivities, RoutingActivities
from infra.catalogue.basis import features_for
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.learning.feedback import PostgresJudgements
from infra.db.learning.learners import PostgresLearners
from infra.db.learning.predictors import PostgresPredictors
from infra.db.learning.rescore_jobs import PostgresRescoreJobs
from infra.db.learning.rescoring import PostgresRescoring
from infra.db.learning.stored_texts import StoredTexts
from infra.db.learning.token_reports import PostgresTokenReports
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.requests.erasures import PostgresErasures
from infra.db.requests.housekeeping import Housekeeping, PostgresRetention
from infra.db.requests.ledger import PostgresLedger
from infra.db.requests.outbox import Outbox
from infra.db.routing.configuration import PostgresConfiguration
from infra.fitting import ProcessFitter
from infra.local.data_dir import DataDir
from infra.providers.clients import ProviderRegistry
from infra.providers.environment import address_rule, provider_endpoints, proxy_rule
from infra.settings import ConfigurationError, Settings
from infra.temporal.client import connect, ensure_search_attributes
from infra.temporal.jobs import TemporalErasures
from infra.temporal.workers import maintenance_worker, routing_worker, wait_until_polling
from infra.vectors.embedders import EmbedderConfig, create_embedder
from infra.vectors.milvus import MilvusHistory
from infra.vectors.training import MilvusTrainingSource
from modelpilot import names
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.aggregation import Exporter
from modelpilot.providers.token_ratios import TokenRatios
from processes.parts import (
    announced,
    instance_name,
    keep_up,
    open_leases,
    open_ledger,
    recall_ratios,
    run_process,
)
from workflows import schedules
from workflows.aggregate_hourly import AggregateHourlyWorkflow
from workflows.erasure import EraseWorkflow
from workflows.housekeeping import HousekeepingWorkflow
from workflows.refit import RefitWorkflow
from workflows.rescore_batch import RescoreBatchWorkflow
from workflows.route_request import RouteRequestWorkflow


def aggregation_steps(
    settings: Settings, database: Database, history: MilvusHistory | None = None
) -> list[Callable[..., Any]]:
    """The activities of AggregateHourlyWorkflow, over Postgres, the vector history and, where one is configured, the
    warehouse sink. Raises ConfigurationError for a sink that cannot be written to."""
    retention = PostgresRetention(
        database, days=settings.request_retention_days, exports=settings.export_url is not None
    )
    exporter = _exporter(settings, database)
    steps = AggregationActivities(PostgresAggregator(database), exporter, retention, history=history)
    return [steps.plan_aggregation, steps.aggregate_hours, steps.export_requests, steps.purge_requests]


def _exporter(settings: Settings, database: Database) -> Exporter:
    from infra.warehouse.parquet import NoExporter, ParquetExporter

    if settings.export_url is None:
        return NoExporter()
    from infra.db.metrics.export import ExportLedger
    from infra.warehouse.sink import FileSink

    try:
        sink = FileSink(settings.export_url, settings.data_dir / "export")
    except (ImportError, ValueError) as error:
        # The message names the package that is missing, and not the address, which may hold a password.
        raise ConfigurationError([f"MODELPILOT_EXPORT_URL: {type(error).__name__}: {_harmless(error)}"]) from None
    return ParquetExporter(ExportLedger(database), sink)


def _harmless(error: Exception) -> str:
    return str(error) if isinstance(error, ImportError) else "fsspec does not know this kind of address"


async def rescoring_steps(
    settings: Settings,
    database: Database,
    history: MilvusHistory,
    stack: AsyncExitStack,
    judge_round_s: float = ROUND_S,
) -> list[Callable[..., Any]]:
    """The activities of RescoreBatchWorkflow, with a judge that calls providers as the gateway does; connections to
    providers are closed by `stack`."""
    keyring = Keyring(settings.encryption_key_texts)
    clients = await stack.enter_async_context(ProviderRegistry(address_rule(settings), proxies=proxy_rule(settings)))
    configuration = PostgresConfiguration(database, keyring, provider_endpoints(settings))
    jobs, texts = PostgresRescoreJobs(database), StoredTexts(database, keyring)
    rows = PostgresRescoring(database)
    rescoring = RescoreActivities(jobs, rows, texts, history)
    ratios = TokenRatios()
    keep_up(stack, recall_ratios(ratios, PostgresTokenReports(database)))
    caller = ModelCaller(clients, configuration, ratios=ratios)
    judgements = PostgresJudgements(database, keyring)
    ledger = PostgresLedger(database, keyring, retention_hours=settings.result_retention_hours)
    stack.push_async_callback(ledger.close)
    judging = JudgeActivities(jobs, judgements, texts, caller, configuration, ledger, judge_round_s)
    return [rescoring.open_rescore, rescoring.rescore_slice, rescoring.close_rescore, judging.judge_slice]


def erasing_steps(
    settings: Settings, client: Client, database: Database, stack: AsyncExitStack
) -> list[Callable[..., Any]]:
    """The activities of EraseWorkflow; until `stack` closes, jobs that nobody has started are started."""
    store = PostgresErasures(database, Keyring(settings.encryption_key_texts))
    temporal = TemporalErasures(client)
    keep_up(stack, keep_erasing(store, temporal, store, ERASING_EVERY_S))
    steps = EraseActivities(store, temporal)
    return [steps.open_erasure, steps.erase_slice, steps.close_erasure]


log = structlog.get_logger(__name__)

# A job revises thousands of points: flushed by the few hundred, Milvus Lite would mostly merge small segments.
_FLUSH_ROWS = 4_000
# How often what was learnt is taken from the outbox to the vector store, and revised grades to what routers learn.
OUTBOX_EVERY_S = 1.0
# How often decisions are cleaned of what was erased.
ERASING_EVERY_S = 1.0
_NEEDED = ("database_url", "temporal_address", "milvus_uri", "encryption_keys")


def command() -> None:
    """Run what lasts and what is scheduled until SIGINT or SIGTERM. Exit codes: 0 stopped, 1 a service failed, 2 wrong
    configuration."""
    run_process("worker", _NEEDED, run)


async def run(settings: Settings) -> None:
    """Work until canceled. Raises DependencyUnavailable where Temporal is not there at the start."""
    instance, keyring = instance_name("worker"), Keyring(settings.encryption_key_texts)
    async with AsyncExitStack() as stack:
        client = await connect(settings, keyring, instance)
        await ensure_search_attributes(client)
        for schedule in schedules.every():
            await _ensured(client, schedule)
        routing, maintenance = await build(settings, client, stack)
        async with routing, maintenance:
            for queue in (names.ROUTING_QUEUE, names.MAINTENANCE_QUEUE):
                await wait_until_polling(client, queue, client.identity)
            with announced(DataDir(settings.data_dir).worker_ready):
                log.info("worker_polling", identity=client.identity)
                await asyncio.Event().wait()


async def build(settings: Settings, client: Client, stack: AsyncExitStack) -> tuple[Worker, Worker]:
    """The workers for requests and for maintenance over real services; what was opened is closed by `stack`."""
    embedder = create_embedder(EmbedderConfig())
    stack.push_async_callback(embedder.close)
    history = MilvusHistory(
        str(settings.milvus_uri),
        embedder=embedder.name,
        dimension=embedder.dimension,
        token=settings.milvus_token_text,
        flush_rows=_FLUSH_ROWS,
    )
    stack.push_async_callback(history.close)
    database = await stack.enter_async_context(Database(str(settings.database_url)))
    learners = PostgresLearners(database, features_for(embedder.name))
    maintenance = MaintenanceActivities(Housekeeping(database), Outbox(database), history, learners)
    keep_up(stack, maintenance.keep_storing(OUTBOX_EVERY_S))
    keep_up(stack, keep_regrading(learners, OUTBOX_EVERY_S))
    steps: list[Callable[..., Any]] = [maintenance.purge_expired, maintenance.replay_outbox, maintenance.flush_vectors]
    configuration = PostgresConfiguration(
        database, Keyring(settings.encryption_key_texts), provider_endpoints(settings)
    )
    source = MilvusTrainingSource(history)
    refit = RefitActivities(source, PostgresPredictors(database), ProcessFitter(), learners, configuration)
    steps += [refit.list_refits, refit.refit_router]
    steps += aggregation_steps(settings, database, history)
    steps += erasing_steps(settings, client, database, stack)
    steps += await rescoring_steps(settings, database, history, stack)
    workflows = [HousekeepingWorkflow, RefitWorkflow, AggregateHourlyWorkflow, RescoreBatchWorkflow, EraseWorkflow]
    requests = await request_steps(settings, client.identity, database, DecisionSteps(embedder, history), stack)
    return (
        routing_worker(client, [RouteRequestWorkflow], requests),
        maintenance_worker(client, workflows, steps),
    )


async def request_steps(
    settings: Settings, instance: str, database: Database, steps: DecisionSteps, stack: AsyncExitStack
) -> list[Callable[..., Any]]:
    """The activities of RouteRequestWorkflow, for requests that no gateway carries any more."""
    keyring = Keyring(settings.encryption_key_texts)
    ledger = open_ledger(settings, database, keyring, stack)
    leases = await open_leases(settings, database, instance, stack)
    clients = await stack.enter_async_context(ProviderRegistry(address_rule(settings), proxies=proxy_rule(settings)))
    caller = ModelCaller(clients, PostgresConfiguration(database, keyring, provider_endpoints(settings)))
    recovery = Recovery(instance, caller, steps, ledger, leases, keyring.mac)
    routing, performance = RoutingActivities(), PerformanceActivities(recovery)
    providers = ProviderActivities(recovery, Fallbacks(caller, ledger))
    reports = [routing.load_router, routing.embed_prompt, routing.query_history, routing.score_models]
    return [*reports, providers.call_provider, providers.call_fallback, performance.store_performance]


async def _ensured(client: Client, schedule: schedules.NamedSchedule) -> None:
    try:
        await schedules.ensure(client, schedule)
    except RPCError as error:
        raise DependencyUnavailable(f"Temporal took no schedule: {error.message}") from error
