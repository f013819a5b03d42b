"""What a fit learns from: the newest rows of one router's history, as columns."""

from collections.abc import Callable, Sequence

import numpy as np

from infra.vectors.milvus import MilvusHistory
from infra.vectors.rows import HistoryRow
from modelpilot.arrays import Floats
from modelpilot.learning.estimation import TrainingRows
from modelpilot.requests.records import HistoryScope, coded


class MilvusTrainingSource:
    """Implements `activities.jobs.refit.TrainingSource`."""

    def __init__(self, history: MilvusHistory) -> None:
        self._history = history

    async def read(self, scope: HistoryScope, limit: int, beat: Callable[[int], None]) -> TrainingRows:
        """The newest `limit` rows; `beat` hears of every page how many there are by then."""
        rows: list[HistoryRow] = []
        newest = await self._history.newest_since(scope, limit)
        async for page in self._history.scan(scope, min_timestamp=newest):
            rows.extend(page)
            beat(len(rows))
        return training_rows(rows, limit)


def training_rows(rows: Sequence[HistoryRow], limit: int) -> TrainingRows:
    """The newest `limit` rows; a prompt that several models answered has its vector once."""
    newest = sorted(rows, key=lambda row: row.timestamp)[-limit:]
    prompts, prompt = coded([_prompt(row) for row in newest])
    models, model = coded([row.model for row in newest])
    latest = {_prompt(row): row for row in newest}
    vectors = [latest[name].embedding for name in prompts]
    return TrainingRows(
        vectors=np.array(vectors, np.float32) if vectors else np.zeros((0, 0), np.float32),
        models=models,
        prompt=prompt,
        model=model,
        quality=_known(newest, "quality", "quality_count"),
        quality_weight=_column(newest, "quality_weight"),
        input_tokens=_column(newest, "input_tokens"),
        output_tokens=_column(newest, "output_tokens"),
        cost_usd=_known(newest, "cost_usd", "cost_count"),
        latency_ms=_column(newest, "latency_ms"),
        ttft_ms=_known(newest, "ttft_ms", "ttft_count"),
        count=_column(newest, "request_count"),
        timestamp=_column(newest, "timestamp"),
    )


def _prompt(row: HistoryRow) -> str:
    # A point's id is the prompt's hash, a slash, and the model, which may have slashes of its own.
    return row.point_id.removesuffix(f"/{row.model}")


def _column(rows: Sequence[HistoryRow], name: str) -> Floats:
    return np.array([getattr(row, name) for row in rows], np.float64)


def _known(rows: Sequence[HistoryRow], name: str, count: str) -> Floats:
    return np.where(_column(rows, count) > 0.0, _column(rows, name), np.nan)
