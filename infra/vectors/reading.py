"""Searches, pages and counts of one router's rows with a Milvus client. Blocking: run on a thread."""

from collections.abc import Sequence
from typing import Any

from pymilvus import MilvusClient

from infra.vectors.client import MilvusConfig
from infra.vectors.rows import to_neighbours
from infra.vectors.schema import VECTOR_FIELD, partition_of, scope_filter, search_params
from modelpilot.requests.records import HistoryScope, Neighbours, Vector

BULK_TIMEOUT_S = 30.0
_NEIGHBOUR_FIELDS = [
    "model",
    "request_id",
    "quality",
    "quality_count",
    "cost_usd",
    "cost_count",
    "latency_ms",
    "output_tokens",
    "request_count",
    "timestamp",
]


def search(
    client: MilvusClient, config: MilvusConfig, scope: HistoryScope, vector: Vector, limit: int, timeout_s: float
) -> Neighbours:
    """The scope's `limit` rows nearest to `vector`."""
    hits = client.search(
        config.collection,
        [vector],
        filter=scope_filter(scope),
        limit=limit,
        anns_field=VECTOR_FIELD,
        output_fields=_NEIGHBOUR_FIELDS,
        partition_names=[partition_of(scope)],
        search_params=search_params(config.index_type, limit),
        timeout=timeout_s,
    )[0]
    return to_neighbours([hit["entity"] for hit in hits], [hit["distance"] for hit in hits])


def read_page(
    client: MilvusClient,
    collection: str,
    scope: HistoryScope,
    fields: Sequence[str],
    limit: int,
    after: str,
    conditions: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The scope's first `limit` entities in order of primary key, behind the key `after`."""
    return list(
        client.query(
            collection,
            filter=scope_filter(scope, f'pk > "{after}"', *conditions),
            output_fields=list(fields),
            partition_names=[partition_of(scope)],
            limit=limit,
            # As pymilvus's own QueryIterator asks for pages in order of primary key.
            iterator="True",
            reduce_stop_for_best="True",
            timeout=BULK_TIMEOUT_S,
        )
    )


def count_rows(client: MilvusClient, collection: str, scope: HistoryScope) -> int:
    """Number of rows of the scope."""
    answer = client.query(
        collection,
        filter=scope_filter(scope),
        output_fields=["count(*)"],
        partition_names=[partition_of(scope)],
        consistency_level="Strong",
        timeout=BULK_TIMEOUT_S,
    )
    return int(answer[0]["count(*)"])


def newest_since(client: MilvusClient, collection: str, scope: HistoryScope, rows: int) -> float:
    """The smallest timestamp of the scope's newest `rows` rows; 0.0 where it has no more than that."""
    if count_rows(client, collection, scope) <= rows:
        return 0.0
    timestamps: list[float] = []
    after, limit = "", 10_000
    while True:
        page = read_page(client, collection, scope, ["pk", "timestamp"], limit, after)
        timestamps.extend(entity["timestamp"] for entity in page)
        if len(page) < limit:
            return sorted(timestamps)[-rows:][0]
        after = page[-1]["pk"]
