"""How history lies in Milvus: one collection, one partition per router, every id in a filter a hex digest."""

import json
from collections.abc import Iterable
from hashlib import blake2b

from pymilvus import CollectionSchema, DataType, FieldSchema
from pymilvus.milvus_client.index import IndexParams

from modelpilot.requests.erasure import Forgotten
from modelpilot.requests.records import HistoryScope

# A Milvus cluster allows 1,024 partitions per collection. Beneath that many routers each has (nearly) its own;
# beyond, some share one, which costs speed only: the scope filter is applied in any case.
PARTITION_COUNT = 512
VECTOR_FIELD = "embedding"
# Inner product of unit vectors is the cosine, and unlike COSINE it is defined for the zero vector of an empty text.
METRIC = "IP"

# Longest values, in UTF-8 bytes.
TEXT_LIMITS = {
    "pk": 32,
    "scope": 32,
    "user_id": 1_024,
    "router_id": 256,
    "point_id": 1_024,
    "model": 512,
    "request_id": 1_024,
    "request_type": 256,
}
_NUMBER_FIELDS = (
    "request_count",
    "quality",
    "quality_count",
    "cost_usd",
    "cost_count",
    "ttft_ms",
    "ttft_count",
    "latency_ms",
    "input_tokens",
    "output_tokens",
    "timestamp",
    "updated_at",
)
SCALAR_FIELDS = (*TEXT_LIMITS, *_NUMBER_FIELDS)
ALL_FIELDS = (*SCALAR_FIELDS, VECTOR_FIELD)


def _digest(*parts: str) -> str:
    # A JSON array keeps ("a", "b/c") and ("a/b", "c") apart, and escapes lone surrogates.
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def scope_key(scope: HistoryScope) -> str:
    """The scope as 32 hex digits: whatever characters the ids have, they cannot end a filter expression."""
    return _digest(scope.user_id, scope.router_id)


def primary_key(scope: HistoryScope, point_id: str, model: str) -> str:
    """The primary key of a point. The scope is part of it, so that one tenant cannot overwrite another's point."""
    return _digest(scope.user_id, scope.router_id, point_id, model)


def partition_of(scope: HistoryScope) -> str:
    """The partition that holds the scope's points."""
    return f"h{int(scope_key(scope)[:8], 16) % PARTITION_COUNT:03d}"


def scope_filter(scope: HistoryScope, *conditions: str) -> str:
    """The filter expression for a scope; `conditions` are expressions over our own fields and numbers."""
    return " and ".join((f'scope == "{scope_key(scope)}"', *conditions))


def forgotten_filter(which: Forgotten) -> str:
    """The filter expression for what is forgotten of an owner; ids are quoted as JSON, which no character leaves."""
    names = {"user_id": which.user_id, "router_id": which.router_id, "model": which.model}
    return " and ".join(f"{name} == {json.dumps(value)}" for name, value in names.items() if value)


def keys_filter(keys: Iterable[str]) -> str:
    """The filter expression for primary keys."""
    return f"pk in {json.dumps(list(keys))}"


def collection_schema(dimension: int) -> CollectionSchema:
    """The collection for vectors of `dimension`."""
    texts = [
        FieldSchema(name, DataType.VARCHAR, max_length=length, is_primary=name == "pk")
        for name, length in TEXT_LIMITS.items()
    ]
    numbers = [FieldSchema(name, DataType.DOUBLE) for name in _NUMBER_FIELDS]
    vector = FieldSchema(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    return CollectionSchema([*texts, *numbers, vector], enable_dynamic_field=False)


def index_params() -> IndexParams:
    """The vector index: exact, and on Milvus Lite faster than HNSW up to at least 20,000 rows a router."""
    params = IndexParams()
    params.add_index(VECTOR_FIELD, index_type="FLAT", metric_type=METRIC)
    return params
