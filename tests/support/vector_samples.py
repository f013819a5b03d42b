"""Sample points for tests of the vector history."""

from dataclasses import replace

import numpy as np

from infra.vectors.milvus import MilvusHistory
from modelpilot.requests.records import HistoryPoint, HistoryScope, Vector

DIMENSION = 16


def unit(index: int) -> Vector:
    """A unit vector along one axis."""
    vector = np.zeros(DIMENSION, np.float32)
    vector[index % DIMENSION] = 1.0
    return vector


def point(scope: HistoryScope, name: str, request_id: str, **changes: object) -> HistoryPoint:
    """What a request left behind; fields may be replaced."""
    made = HistoryPoint(
        point_id=name,
        scope=scope,
        model="sim/small",
        request_id=request_id,
        embedding=unit(0),
        latency_ms=100.0,
        cost_usd=0.5,
        quality=None,
        ttft_ms=10.0,
        input_tokens=10,
        output_tokens=20,
        request_type="chat",
        timestamp=1_000.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def new_history(uri: str, collection: str, **options: object) -> MilvusHistory:
    """A history that is not open yet; options may be replaced."""
    defaults = {"deadline_ms": 2_000.0, "embedder": "test", "dimension": DIMENSION, "collection": collection}
    return MilvusHistory(uri, **{**defaults, **options})  # type: ignore[arg-type]
