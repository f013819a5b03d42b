"""A maintenance worker's re-scoring over real Postgres, Milvus, Temporal and the simulator, and rows to work on."""

import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.jobs.judge import ROUND_S
from activities.requests.recording import history_point
from infra.catalogue.seed import seed_models
from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.learning.feedback import PostgresFeedback
from infra.db.learning.rescore_jobs import PostgresRescoreJobs
from infra.db.learning.stored_texts import StoredTexts
from infra.db.management.seed import seed_catalogue
from infra.db.requests.ledger import PostgresLedger
from infra.settings import load_settings
from infra.temporal.codec import data_converter
from infra.temporal.jobs import TemporalRescoring
from infra.temporal.workers import wait_until_polling
from infra.vectors.milvus import MilvusHistory
from modelpilot import names
from modelpilot.learning.feedback import Feedback
from modelpilot.learning.rescoring import JobState, RescoreInput, RescoreResult, RescoreSpec
from modelpilot.requests.outcome import Usage
from modelpilot.requests.records import HistoryScope, RequestKey, RequestRecord, Vector
from processes.worker import rescoring_steps
from tests.support.samples import attempt, outcome, record
from tests.support.world import KEYRING, eventually
from workflows.rescore_batch import RescoreBatchWorkflow

DIMENSION = 8
RIGHT, WRONG = "On tea: the model weighs each option.", "I am not certain, but on tea: the model weighs."


def chat_answer(text: str) -> dict[str, Any]:
    """An OpenAI-shaped answer."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def vector(number: int) -> Vector:
    """A unit vector of its own for every number."""
    drawn = np.random.default_rng(number).normal(size=DIMENSION)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


@dataclass
class Learning:
    """The stores of one installation, and one user's rows in them."""

    database: Database
    keyring: Keyring
    ledger: PostgresLedger
    feedback: PostgresFeedback
    texts: StoredTexts
    jobs: PostgresRescoreJobs
    history: MilvusHistory
    client: Client
    simulator_url: str
    user: str = field(default_factory=lambda: f"user-{secrets.token_hex(4)}")

    @property
    def scope(self) -> HistoryScope:
        """Where the points of `add` are."""
        return HistoryScope(self.user, "support")

    async def add(
        self, name: str, *, prompt: str = "", text: str | None = None, age_s: float = 60.0, **changes: Any
    ) -> RequestRecord:
        """An answered request with its point; `text` is the stored answer (None: the router stores none)."""
        model = changes.pop("model", "sim/small")
        ended = outcome(
            model=model,
            quality=changes.pop("quality", None),
            answer=chat_answer(text or RIGHT),
            attempts=(attempt(0, model=model),),
            usage=Usage(10, 10),
        )
        body = changes.pop("body", {"messages": [{"role": "user", "content": f"What is tea, {name}?"}]})
        made = record(self.user, name, outcome=ended, prompt_hash=prompt or f"hash-{self.user}-{name}")
        at = time.time() - age_s
        stored = body if text is not None else None
        made = replace(made, created_at=at, completed_at=at, stored_body=stored, **changes)
        await self.ledger.record(made)
        point = history_point(made, vector(hash(made.prompt_hash) % 2**31))
        if point is not None:
            await self.history.store(point)
        return made

    async def rate(self, name: str, score: float, *, by: str | None = None, key: str = "key_1") -> None:
        """Feedback of one source."""
        await self.feedback.put(Feedback(RequestKey(self.user, name), key, score, by))

    async def quality(self, name: str) -> tuple[float | None, str | None, float | None]:
        """Quality, its source and the confidence in it, as the row has them."""
        query = "SELECT quality, quality_source, quality_confidence FROM requests WHERE user_id=%s AND request_id=%s"
        row = await self.database.fetch_one(query, (self.user, name))
        assert row is not None
        return row["quality"], row["quality_source"], row["quality_confidence"]

    async def points(self) -> dict[str, tuple[float | None, float]]:
        """Quality (None: unknown) and number of qualities of every point, by the request folded in last."""
        rows = [row async for page in self.history.scan(self.scope) for row in page]
        return {row.request_id: (row.quality if row.quality_count else None, row.quality_count) for row in rows}

    async def start(self, **spec: Any) -> "WorkflowHandle[Any, RescoreResult]":
        """Start a job of this user; `wait_for` its end with the handle."""
        wanted = RescoreSpec(**{"to_s": time.time(), **spec})
        job = RescoreInput(self.user, f"rescore_{secrets.token_hex(6)}", wanted)
        await TemporalRescoring(self.client).start(job)
        await self.jobs.add(job, job.workflow_id)
        return self.client.get_workflow_handle(job.workflow_id, result_type=RescoreResult)

    async def run(self, **spec: Any) -> JobState:
        """Run a job to its end."""
        handle = await self.start(**spec)
        await handle.result()
        return await self.state(handle)

    async def state(self, handle: "WorkflowHandle[Any, Any]") -> JobState:
        """A job's row."""
        return await self.jobs.job(self.user, handle.id.rpartition("/")[2])

    async def judgements(self) -> list[dict[str, Any]]:
        """All judgements of this user, by request."""
        query = "SELECT * FROM judgements WHERE user_id = %s ORDER BY request_id"
        return [dict(row) for row in await self.database.fetch_all(query, (self.user,))]

    async def until(self, handle: "WorkflowHandle[Any, Any]", otherwise: str, **wanted: Any) -> JobState:
        """The job's row once it has these values."""

        async def there() -> JobState | None:
            state = await self.state(handle)
            return state if all(getattr(state, name) == value for name, value in wanted.items()) else None

        found: JobState = await eventually(there, otherwise)
        return found


@asynccontextmanager
async def learning(
    database_url: str, temporal_address: str, milvus_uri: str, simulator_url: str
) -> AsyncIterator[Learning]:
    """The stores, with the catalogue in Postgres; without a worker."""
    keyring = Keyring([KEYRING])
    collection = f"learning_{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_url))
        await seed_catalogue(database, seed_models())
        ledger = PostgresLedger(database, keyring)
        stack.push_async_callback(ledger.close)
        history = MilvusHistory(
            milvus_uri, embedder="test", dimension=DIMENSION, collection=collection, window_ms=5.0, flush_rows=None
        )
        stack.push_async_callback(history.close)
        client = await Client.connect(temporal_address, data_converter=data_converter(keyring))
        yield Learning(
            database=database,
            keyring=keyring,
            ledger=ledger,
            feedback=PostgresFeedback(database, keyring),
            texts=StoredTexts(database, keyring),
            jobs=PostgresRescoreJobs(database),
            history=history,
            client=client,
            simulator_url=simulator_url,
        )


@asynccontextmanager
async def rescoring_worker(
    there: Learning, extra: Iterable[type] = (), judge_round_s: float = ROUND_S
) -> AsyncIterator[Worker]:
    """A maintenance worker that re-scores; its workflows are sandboxed (the default runner), and its heartbeats tell at
    once of a cancellation."""
    settings = load_settings({"MODELPILOT_ENCRYPTION_KEYS": KEYRING, "MODELPILOT_SIMULATOR_URL": there.simulator_url})
    identity = f"worker-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        steps = await rescoring_steps(settings, there.database, there.history, stack, judge_round_s)
        async with Worker(
            there.client,
            task_queue=names.MAINTENANCE_QUEUE,
            workflows=[RescoreBatchWorkflow, *extra],
            activities=steps,
            identity=identity,
            max_heartbeat_throttle_interval=timedelta(milliseconds=50),
        ) as worker:
            await wait_until_polling(there.client, names.MAINTENANCE_QUEUE, identity)
            yield worker
