"""Twelve points of two tenants in real stores, and what is left of them after something was deleted."""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from temporalio.worker import Worker

from activities.jobs.erasure import EraseActivities
from activities.jobs.housekeeping import MaintenanceActivities
from activities.requests.recording import history_point
from infra.db.learning.learners import PostgresLearners
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.requests.erasures import PostgresErasures
from infra.db.requests.housekeeping import Housekeeping, PostgresRetention
from infra.db.requests.outbox import Outbox
from infra.temporal.jobs import TemporalErasures
from infra.temporal.workers import wait_until_polling
from infra.vectors.rows import HistoryRow
from modelpilot import names
from modelpilot.learning.feedback import Feedback
from modelpilot.requests.erasure import EraseInput, EraseProgress, Erasure, ErasureKind
from modelpilot.requests.outcome import Usage
from modelpilot.requests.records import HistoryScope, RequestKey, RequestRecord
from tests.support.rescoring import Learning, chat_answer, learning, vector
from tests.support.samples import attempt, outcome, record
from workflows.aggregate_hourly import AggregateHourlyWorkflow
from workflows.erasure import EraseWorkflow

ROWS = 12


@dataclass
class Deleting:
    """The stores, and what deletes in them. `stores.user` is the tenant that deletes."""

    stores: Learning
    url: str
    outbox: MaintenanceActivities
    erasures: PostgresErasures
    temporal: TemporalErasures

    async def add(
        self,
        name: str,
        *,
        user: str = "",
        router: str = "support",
        model: str = "sim/small",
        prompt: str = "",
        age_s: float = 60.0,
        **changes: Any,
    ) -> RequestRecord:
        """An answered request with everything that is kept of one; its point waits in the outbox."""
        user = user or self.stores.user
        ended = outcome(
            model=model,
            answer=chat_answer(f"answer-{name}"),
            attempts=(replace(attempt(0, model=model), message=f"message-{name}"),),
            usage=Usage(10, 10),
        )
        at = time.time() - age_s
        body = {"messages": [{"role": "user", "content": f"text-{name}"}]}
        made = replace(
            record(user, name, outcome=ended, prompt_hash=prompt or f"hash-{user}-{router}-{name}"),
            router_id=router,
            created_at=at,
            completed_at=at,
            stored_body=body,
            **changes,
        )
        point = history_point(made, vector(hash(made.prompt_hash) % 2**31))
        assert point is not None
        await self.stores.ledger.record(made, point)
        await self.stores.ledger.put_body(made.key, b"body")
        await self.stores.ledger.reserve(user, "request-id", f"name-{name}", b"digest", name)
        await self.stores.feedback.put(Feedback(RequestKey(user, name), "key_1", 0.5, None, f"comment-{name}"))
        return made

    async def twelve(self, **fields: Any) -> list[RequestRecord]:
        """Twelve of them, in the vector store."""
        prefix = secrets.token_hex(4)
        made = [await self.add(f"{prefix}-{number:02}", **fields) for number in range(ROWS)]
        await self.settle()
        return made

    async def settle(self) -> None:
        """Carry out what waits: in the outbox, revised grades, erased requests that decisions name."""
        while await PostgresLearners(self.stores.database, None).regrade(500):
            pass
        while await self.outbox._replayed(500):
            pass
        while await self.erasures.unname():
            pass

    async def points(self, user: str = "", router: str = "support") -> list[HistoryRow]:
        """All points of a router."""
        scope = HistoryScope(user or self.stores.user, router)
        return [row async for page in self.stores.history.scan(scope) for row in page]

    def found(self, text: str) -> set[str]:
        """The tables in which any row has this text in any column, be it only a part of a value."""
        tables: set[str] = set()
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            listed = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for table in (row["tablename"] for row in listed):
                query = sql.SQL("SELECT 1 FROM {} AS t WHERE strpos(t::text, %s) > 0 LIMIT 1")
                if connection.execute(query.format(sql.Identifier(table)), (text,)).fetchone():
                    tables.add(table)
        return tables

    async def sums(self, user: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Requests, tokens and money of a tenant by hour, router and model: of raw rows, and of hourly metrics."""
        aggregator = PostgresAggregator(self.stores.database)
        await aggregator.plan()
        for hour in await aggregator.next_hours(1_000):
            await aggregator.aggregate(hour)
        raw = """SELECT date_trunc('hour', created_at, 'UTC') AS hour, coalesce(router_id, '') AS router_id, model,
            count(*) AS requests, sum(input_tokens)::bigint AS tokens, round(sum(cost_usd)::numeric, 9) AS cost_usd
            FROM requests WHERE user_id = %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
        hourly = """SELECT hour, router_id, model, sum(requests)::bigint AS requests,
            sum(input_tokens)::bigint AS tokens, round(sum(total_cost_usd)::numeric, 9) AS cost_usd
            FROM hourly_metrics WHERE user_id = %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
        fetch = self.stores.database.fetch_all
        return await fetch(raw, (user,)), await fetch(hourly, (user,))

    async def run(self, kind: ErasureKind, subject: str, user: str = "") -> Erasure:
        """Carry a job to its end."""
        user = user or self.stores.user
        job = await self.erasures.add(user, kind, subject, "key_admin")
        await self.temporal.start(EraseInput(user, job.id))
        handle = self.stores.client.get_workflow_handle(job.workflow_id, result_type=EraseProgress)
        await handle.result()
        await self.settle()
        return await self.erasures.job(user, job.id)

    async def purge(self, days: float = 30.0) -> None:
        """Retention, as the aggregation carries it out."""
        await self.sums(self.stores.user)
        retention = PostgresRetention(self.stores.database, days=days, exports=False)
        closed = await retention.close_hours()
        while await retention.purge(1_000):
            pass
        await self.settle()
        await self.stores.history.forget_before(closed)


@asynccontextmanager
async def deleting(url: str, temporal_address: str, milvus_uri: str, simulator_url: str) -> AsyncIterator[Deleting]:
    """The stores, without a worker."""
    async with learning(url, temporal_address, milvus_uri, simulator_url) as stores:
        database = stores.database
        learners = PostgresLearners(database, None)
        outbox = MaintenanceActivities(Housekeeping(database), Outbox(database), stores.history, learners)
        erasures = PostgresErasures(database, stores.keyring)
        yield Deleting(stores, url, outbox, erasures, TemporalErasures(stores.client))


@asynccontextmanager
async def erasing_worker(there: Deleting, extra: Sequence[Any] = ()) -> AsyncIterator[Worker]:
    """A maintenance worker that erases; `extra` are the activities of other workflows."""
    identity = f"worker-{secrets.token_hex(4)}"
    steps = EraseActivities(there.erasures, there.temporal)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(
            Worker(
                there.stores.client,
                task_queue=names.MAINTENANCE_QUEUE,
                workflows=[EraseWorkflow, AggregateHourlyWorkflow],
                activities=[steps.open_erasure, steps.erase_slice, steps.close_erasure, *extra],
                identity=identity,
                max_heartbeat_throttle_interval=timedelta(milliseconds=50),
            )
        )
        await wait_until_polling(there.stores.client, names.MAINTENANCE_QUEUE, identity)
        yield worker
