"""A router's past: prompts, their outcomes written straight into Milvus, and certainty that the gateway answers from
memory. The n-th prompt and its outcome depend on n alone."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from infra.settings import Settings
from infra.vectors.embedders import WordLlamaEmbedder
from infra.vectors.milvus import MilvusHistory
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.ports import Embedder
from modelpilot.requests.records import HistoryPoint, HistoryScope, QualityUpdate

HOT_WITHIN_S = 120.0
DAYS_S = 30 * 86_400.0
_GROUP_ROWS = 500
_FLUSH_ROWS = 2_000
_DEADLINE_MS = 10_000.0
_ASK_AGAIN_S = 0.1
# (request id, quality) of each neighbour, most similar first.
Explained = Sequence[tuple[str, float | None]]
# What prompts are made of: they look like traffic and are the same on every machine.
_TASKS = (
    "Summarize the main points about {topic} for {reader}",
    "Explain {topic} to {reader}",
    "Write a short e-mail to {reader} about {topic}",
    "List the advantages and risks of {topic}",
    "Which mistakes do people make with {topic}?",
    "Translate this note about {topic} into French",
    "Draft a checklist on {topic} for {reader}",
    "Compare two approaches to {topic} and recommend one",
    "Write a Python function that models {topic}",
    "What should {reader} know about {topic} before a meeting?",
)
_QUALITIES = (
    "low-cost", "seasonal", "large-scale", "automated", "rural", "urban", "international", "experimental", "legacy",
    "renewable", "confidential", "medical", "digital", "historic", "distributed", "wholesale",
)  # fmt: skip
_SUBJECTS = (
    "water supply", "tax returns", "bread baking", "database migrations", "bicycle repair", "insurance claims",
    "protein folding", "train timetables", "customer churn", "garden design", "court decisions", "sensor networks",
    "language courses", "shipping routes", "battery storage", "school lunches", "music licensing", "search engines",
    "patient records", "bridge inspections", "fraud detection", "wine tasting", "satellite images", "hiring interviews",
)  # fmt: skip
_READERS = (
    "a new colleague", "the board", "a ten-year-old", "an auditor", "our customers", "a retired engineer",
    "the support team", "a journalist", "my landlord", "two students",
)  # fmt: skip
_DETAILS = (
    "Use at most {n} sentences.", "The budget is {n} thousand euros.", "It concerns case number {n}.",
    "Keep the tone friendly.", "Mention the deadline in {n} days.", "Assume no prior knowledge.",
    "Give {n} examples.", "Cite nothing that you are not sure about.",
)  # fmt: skip


def prompt(number: int) -> str:
    """The prompt of this number: 6 to 60 words, unlike every other one."""
    draw = random.Random(number)
    topic = f"{draw.choice(_QUALITIES)} {draw.choice(_SUBJECTS)}"
    task = draw.choice(_TASKS).format(topic=topic, reader=draw.choice(_READERS))
    details = [detail.format(n=draw.randint(2, 900)) for detail in draw.sample(_DETAILS, draw.randint(0, 5))]
    return " ".join([f"{task} (ticket {number}).", *details])


@dataclass(frozen=True, slots=True)
class PastModel:
    """What past requests say about one model, on average."""

    id: str
    quality: float
    latency_ms: float
    cost_usd: float


class PastPrompts:
    """The history of one router. Prompt number n was answered by model n mod (number of models)."""

    def __init__(
        self, store: MilvusHistory, embedder: WordLlamaEmbedder, scope: HistoryScope, models: Sequence[PastModel]
    ) -> None:
        self._store, self._embedder, self._scope, self._models = store, embedder, scope, models

    async def fill(self, rows: int) -> None:
        """Store prompts 0 to rows - 1, spread over the past month, and flush. Raises DependencyUnavailable."""
        now = time.time()
        for start in range(0, rows, _GROUP_ROWS):
            numbers = range(start, min(start + _GROUP_ROWS, rows))
            points = [
                await past_point(
                    self._embedder, self._scope, self._models, number, now - DAYS_S * (rows - number) / rows
                )
                for number in numbers
            ]
            await asyncio.gather(*(self._store.store(point) for point in points))
        await self._store.flush()

    async def wait_until_hot(self, explain: Callable[[str], Awaitable[Explained]]) -> None:
        """Return when the gateway answers this router's queries from memory. Raises DependencyUnavailable.

        A quality revised in Milvus reaches a gateway's copy with that copy's next refresh only: while Milvus itself
        shows the new one, an answer that shows the old one came from memory.
        """
        try:
            async with asyncio.timeout(HOT_WITHIN_S):
                attempt = 0
                while not await self._answered_from_memory(explain, 0.1 + 0.01 * (attempt % 80)):
                    attempt += 1
                    await asyncio.sleep(_ASK_AGAIN_S)
        except TimeoutError:
            raise DependencyUnavailable("the gateway did not load the router's history into memory") from None

    async def _answered_from_memory(self, explain: Callable[[str], Awaitable[Explained]], quality: float) -> bool:
        probe, vector = self._models[0].id, await self._embedder.embed(prompt(0))
        await self._store.update_quality(self._scope, [QualityUpdate(_point_id(0), probe, quality)])
        known = await self._store.query(self._scope, vector, 1)
        in_milvus = len(known) > 0 and abs(float(known.quality[0]) - quality) < 1e-4
        shown = dict(await explain(prompt(0))).get(_point_id(0))
        return in_milvus and shown is not None and abs(shown - quality) > 1e-3


async def past_point(
    embedder: Embedder, scope: HistoryScope, models: Sequence[PastModel], number: int, timestamp: float
) -> HistoryPoint:
    """The outcome of prompt `number`, answered at `timestamp` (Unix s): the same on every machine but for that."""
    draw, model, text = random.Random(number), models[number % len(models)], prompt(number)
    return HistoryPoint(
        point_id=_point_id(number),
        scope=scope,
        model=model.id,
        request_id=_point_id(number),
        embedding=await embedder.embed(text),
        latency_ms=model.latency_ms * draw.uniform(0.7, 1.5),
        cost_usd=model.cost_usd * draw.uniform(0.5, 2.0),
        quality=float(draw.random() < model.quality),
        ttft_ms=model.latency_ms * draw.uniform(0.5, 0.7),
        input_tokens=len(text.split()),
        output_tokens=draw.randint(10, 60),
        request_type="chat",
        timestamp=timestamp,
    )


@asynccontextmanager
async def past_prompts(
    settings: Settings, scope: HistoryScope, models: Sequence[PastModel]
) -> AsyncIterator[PastPrompts]:
    """The history over the installation's Milvus, written in larger groups than a gateway would."""
    embedder = WordLlamaEmbedder()
    store = MilvusHistory(
        str(settings.milvus_uri),
        embedder=embedder.name,
        dimension=embedder.dimension,
        deadline_ms=_DEADLINE_MS,
        group_rows=_GROUP_ROWS,
        flush_rows=_FLUSH_ROWS,
    )
    try:
        yield PastPrompts(store, embedder, scope, models)
    finally:
        await store.close()


def _point_id(number: int) -> str:
    return f"bench-past-{number}"
