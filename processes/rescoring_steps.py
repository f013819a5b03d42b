"""Wiring of batch re-scoring: its activities, and a judge that calls providers as the gateway does."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from activities.jobs.judging import JudgeActivities
from activities.jobs.rescoring import RescoreActivities
from activities.requests.call import ModelCaller
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.learning.feedback import PostgresFeedback
from infra.db.learning.judgements import PostgresJudgements
from infra.db.learning.rescore_jobs import PostgresRescoreJobs
from infra.db.learning.rescoring import PostgresRescoring
from infra.db.learning.stored_texts import StoredTexts
from infra.db.routing.configuration import PostgresConfiguration
from infra.providers.addresses import AddressRule
from infra.providers.clients import ProviderRegistry
from infra.providers.environment import provider_endpoints
from infra.settings import Settings
from infra.vectors.milvus import MilvusHistory


async def rescoring_steps(
    settings: Settings, database: Database, history: MilvusHistory, stack: AsyncExitStack
) -> list[Callable[..., Any]]:
    """The activities of RescoreBatchWorkflow; connections to providers are closed by `stack`."""
    keyring = Keyring([key.get_secret_value() for key in settings.encryption_keys])
    rule = AddressRule.of(allow_internal=not settings.production, private_hosts=settings.private_provider_hosts)
    clients = await stack.enter_async_context(ProviderRegistry(rule))
    configuration = PostgresConfiguration(database, keyring, provider_endpoints(settings))
    jobs, texts = PostgresRescoreJobs(database), StoredTexts(database, keyring)
    rows = PostgresRescoring(database, PostgresFeedback(database, keyring))
    rescoring = RescoreActivities(jobs, rows, texts, history)
    caller = ModelCaller(clients, configuration)
    judging = JudgeActivities(jobs, PostgresJudgements(database, keyring), texts, caller, configuration)
    return [rescoring.open_rescore, rescoring.rescore_slice, rescoring.close_rescore, judging.judge_slice]
