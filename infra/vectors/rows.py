"""A stored row of history: folding an outcome into it (running means) and reading it back. Pure arithmetic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infra.vectors.schema import SCALAR_FIELDS, TEXT_LIMITS, VECTOR_FIELD, primary_key, scope_key
from modelpilot.errors import EmbedderMismatch, InvalidRequest
from modelpilot.learning.estimation import REPEAT_CAP
from modelpilot.requests.erasure import PointTotals
from modelpilot.requests.records import HistoryPoint, Neighbours, QualityUpdate, Vector, coded


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One (prompt, model) with the means over the `request_count` requests folded into it.

    `quality`, `cost_usd` and `ttft_ms` are means over the requests that have them (`*_count`; 0 means unknown); each
    quality counts by its weight (`HistoryPoint.quality_weight`), which is 1 at most, in the mean and in the count.
    `request_id` is the last request folded in. Times are Unix seconds; `updated_at` is when the row was written.
    """

    pk: str
    scope: str
    user_id: str
    router_id: str
    point_id: str
    model: str
    request_id: str
    request_type: str
    request_count: float
    quality: float
    quality_count: float
    cost_usd: float
    cost_count: float
    ttft_ms: float
    ttft_count: float
    latency_ms: float
    input_tokens: float
    output_tokens: float
    timestamp: float
    updated_at: float
    embedding: Vector

    @property
    def quality_weight(self) -> float:
        """The share in [0, 1] of the row's own weight, which grows with its requests, that its quality has."""
        return float(_share(self.quality_count, self.request_count))

    @classmethod
    def from_entity(cls, entity: Mapping[str, Any]) -> "HistoryRow":
        """The row from a Milvus entity with all fields."""
        scalars = {name: entity[name] for name in SCALAR_FIELDS}
        return cls(**scalars, embedding=np.asarray(entity[VECTOR_FIELD], np.float32))

    def to_entity(self) -> dict[str, Any]:
        """The row as a Milvus entity."""
        return {name: getattr(self, name) for name in (*SCALAR_FIELDS, VECTOR_FIELD)}


def check_point(point: HistoryPoint, dimension: int) -> None:
    """Raise EmbedderMismatch or InvalidRequest for a point that Milvus would refuse, before it joins a group."""
    if point.embedding.shape != (dimension,):
        raise EmbedderMismatch(f"the history holds vectors of {dimension} numbers, not {point.embedding.shape}")
    numbers = (point.latency_ms, point.cost_usd, point.quality, point.ttft_ms, point.timestamp)
    finite = all(math.isfinite(number) for number in numbers if number is not None)
    if not finite or not np.isfinite(point.embedding).all():
        raise InvalidRequest("a history point must have finite numbers only")
    row = new_row(point, 0.0)
    for name, limit in TEXT_LIMITS.items():
        if len(getattr(row, name).encode()) > limit:
            raise InvalidRequest(f"{name} is longer than {limit} bytes", param=name)


def new_row(point: HistoryPoint, now: float) -> HistoryRow:
    """The row of a point that is seen for the first time."""
    return HistoryRow(
        pk=primary_key(point.scope, point.point_id, point.model),
        scope=scope_key(point.scope),
        user_id=_storable(point.scope.user_id),
        router_id=_storable(point.scope.router_id),
        point_id=_storable(point.point_id),
        model=_storable(point.model),
        request_id=_storable(point.request_id),
        request_type=_storable(point.request_type),
        request_count=1.0,
        quality=point.quality or 0.0,
        quality_count=0.0 if point.quality is None else point.quality_weight,
        cost_usd=point.cost_usd or 0.0,
        cost_count=float(point.cost_usd is not None),
        ttft_ms=point.ttft_ms or 0.0,
        ttft_count=float(point.ttft_ms is not None),
        latency_ms=point.latency_ms,
        input_tokens=float(point.input_tokens),
        output_tokens=float(point.output_tokens),
        timestamp=point.timestamp,
        updated_at=now,
        embedding=point.embedding.astype(np.float32, copy=True),
    )


def fold(row: HistoryRow | None, point: HistoryPoint, now: float) -> HistoryRow:
    """`row` with `point` folded in; the same row where that request was the last one folded in already."""
    fresh = new_row(point, now)
    if row is None:
        return fresh
    if row.request_id == fresh.request_id:
        return row
    count = row.request_count + 1.0
    return replace(
        fresh,
        request_count=count,
        latency_ms=_mean(row.latency_ms, row.request_count, fresh.latency_ms, 1.0),
        input_tokens=_mean(row.input_tokens, row.request_count, fresh.input_tokens, 1.0),
        output_tokens=_mean(row.output_tokens, row.request_count, fresh.output_tokens, 1.0),
        quality=_mean(row.quality, row.quality_count, fresh.quality, fresh.quality_count),
        quality_count=row.quality_count + fresh.quality_count,
        cost_usd=_mean(row.cost_usd, row.cost_count, fresh.cost_usd, fresh.cost_count),
        cost_count=row.cost_count + fresh.cost_count,
        ttft_ms=_mean(row.ttft_ms, row.ttft_count, fresh.ttft_ms, fresh.ttft_count),
        ttft_count=row.ttft_count + fresh.ttft_count,
        timestamp=max(row.timestamp, fresh.timestamp),
    )


def with_quality(row: HistoryRow, update: QualityUpdate, now: float) -> HistoryRow:
    """`row` with its quality replaced."""
    return replace(row, **quality_fields(row.pk, update, now))


def quality_fields(key: str, update: QualityUpdate, now: float) -> dict[str, Any]:
    """The fields of the row with primary key `key` that a revised quality changes (see `with_quality`)."""
    count = 0.0 if update.quality is None else update.weight
    return {"pk": key, "quality": update.quality or 0.0, "quality_count": count, "updated_at": now}


def total_fields(key: str, totals: PointTotals, now: float) -> dict[str, Any]:
    """The fields of the row with primary key `key` that follow from the requests that are left of it."""
    means = ("quality", "quality_count", "cost_usd", "cost_count", "ttft_ms", "ttft_count", "latency_ms",
             "input_tokens", "output_tokens", "timestamp")  # fmt: skip
    numbers = {name: float(getattr(totals, name)) for name in means}
    counted = {"request_count": float(totals.requests), "request_id": _storable(totals.request_id)}
    return {"pk": key, **counted, **numbers, "updated_at": now}


def to_neighbours(entities: Sequence[Mapping[str, Any]], similarity: Sequence[float]) -> Neighbours:
    """Neighbours from Milvus entities, most similar first."""
    if not entities:
        return Neighbours.empty()

    def column(name: str) -> Any:
        return np.array([entity[name] for entity in entities], np.float32)

    models, model = coded([entity["model"] for entity in entities])
    return Neighbours(
        similarity=np.array(similarity, np.float32),
        models=models,
        model=model,
        request_ids=tuple(entity["request_id"] for entity in entities),
        quality=np.where(column("quality_count") > 0, column("quality"), np.float32("nan")),
        cost_usd=np.where(column("cost_count") > 0, column("cost_usd"), np.float32("nan")),
        latency_ms=column("latency_ms"),
        output_tokens=column("output_tokens"),
        count=column("request_count"),
        timestamp=np.array([entity["timestamp"] for entity in entities], np.float64),
        quality_weight=_share(column("quality_count"), column("request_count")),
    )


def _share(quality_count: Any, request_count: Any) -> Any:
    # Both only up to where repeats stop counting: of a thousand requests, one that is graded is still one outcome.
    return np.minimum(quality_count, REPEAT_CAP) / np.minimum(request_count, REPEAT_CAP)


def _mean(old: float, old_count: float, new: float, new_count: float) -> float:
    total = old_count + new_count
    return (old * old_count + new * new_count) / total if total else 0.0


def _storable(text: str) -> str:
    # Lone surrogates have no UTF-8 form and would fail the whole group's protobuf.
    return text.encode("utf-8", "replace").decode()
