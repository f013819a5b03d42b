"""Reads and writes of one router's rows with a Milvus client. Blocking: run on a thread."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymilvus import MilvusClient, MilvusException

from infra.vectors.rows import HistoryRow, fold, quality_fields, to_neighbours, total_fields
from infra.vectors.schema import ALL_FIELDS, METRIC, VECTOR_FIELD, keys_filter, partition_of, primary_key, scope_filter
from modelpilot.requests.erasure import PointTotals
from modelpilot.requests.records import HistoryPoint, HistoryScope, Neighbours, QualityUpdate, Vector

BULK_TIMEOUT_S = 30.0
_REVISE_TIMEOUT_S = 25.0
_FOLD_TIMEOUT_S = 5.0
_NEIGHBOUR_FIELDS = [
    "model", "request_id", "quality", "quality_count", "cost_usd", "cost_count", "latency_ms", "output_tokens",
    "request_count", "timestamp",
]  # fmt: skip


def search(
    client: MilvusClient, collection: str, scope: HistoryScope, vector: Vector, limit: int, timeout_s: float
) -> Neighbours:
    """The scope's `limit` rows nearest to `vector`."""
    hits = client.search(
        collection,
        [vector],
        filter=scope_filter(scope),
        limit=limit,
        anns_field=VECTOR_FIELD,
        output_fields=_NEIGHBOUR_FIELDS,
        partition_names=[partition_of(scope)],
        search_params={"metric_type": METRIC},
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


def fold_points(client: MilvusClient, collection: str, partition: str, points: list[HistoryPoint], now: float) -> None:
    """Fold points of one partition into their rows: one read, one upsert."""
    keys = [primary_key(point.scope, point.point_id, point.model) for point in points]
    before = _rows_by_key(client, collection, partition, keys)
    rows = dict(before)
    for key, point in zip(keys, points, strict=True):
        rows[key] = fold(rows.get(key), point, now)
    _upsert(client, collection, partition, [row for key, row in rows.items() if row is not before.get(key)])


def revise_quality(
    client: MilvusClient, collection: str, scope: HistoryScope, updates: Sequence[QualityUpdate], now: float
) -> int:
    """Replace the quality of the scope's points that exist; returns how many do."""
    by_key = {primary_key(scope, update.point_id, update.model): update for update in updates}
    partition = partition_of(scope)
    try:
        return _revise(client, collection, partition, by_key, now)
    except MilvusException:
        # A point that is missing would have to be made, without its vector: all are refused, and none is written.
        there = _existing(client, collection, partition, by_key)
        return _revise(client, collection, partition, {key: by_key[key] for key in there}, now)


def _existing(client: MilvusClient, collection: str, partition: str, keys: Iterable[str]) -> list[str]:
    rows = client.query(
        collection,
        filter=keys_filter(keys),
        output_fields=["pk"],
        partition_names=[partition],
        consistency_level="Strong",
        timeout=_REVISE_TIMEOUT_S,
    )
    return [row["pk"] for row in rows]


def _revise(
    client: MilvusClient, collection: str, partition: str, by_key: Mapping[str, QualityUpdate], now: float
) -> int:
    # Only these fields: vectors need not travel, and what a gateway folds in meanwhile is not undone.
    changes = [quality_fields(key, update, now) for key, update in by_key.items()]
    if changes:
        client.upsert(collection, changes, partition_name=partition, partial_update=True, timeout=_REVISE_TIMEOUT_S)
    return len(changes)


def delete_scope(client: MilvusClient, collection: str, scope: HistoryScope) -> None:
    """Delete the scope's rows; the partition stays, since another router may share it."""
    client.delete(collection, filter=scope_filter(scope), partition_name=partition_of(scope), timeout=BULK_TIMEOUT_S)


def delete_where(client: MilvusClient, collection: str, condition: str) -> None:
    """Delete the rows of all routers that meet the condition."""
    client.delete(collection, filter=condition, timeout=BULK_TIMEOUT_S)


def rebuild(
    client: MilvusClient, collection: str, scope: HistoryScope, totals: Sequence[PointTotals], now: float
) -> None:
    """Make the scope's points what is left of them: delete those of no request, give the others their numbers. Points
    that are not there are not made."""
    partition = partition_of(scope)
    wanted = {primary_key(scope, each.point_id, each.model): each for each in totals}
    gone = [key for key, each in wanted.items() if each.requests == 0]
    if gone:
        client.delete(collection, ids=gone, partition_name=partition, timeout=BULK_TIMEOUT_S)
    left = [key for key in wanted if key not in set(gone)]
    if left:
        there = _existing(client, collection, partition, left)
        changes = [total_fields(key, wanted[key], now) for key in there]
        if changes:
            client.upsert(collection, changes, partition_name=partition, partial_update=True, timeout=_REVISE_TIMEOUT_S)


def _rows_by_key(client: MilvusClient, collection: str, partition: str, keys: list[str]) -> dict[str, HistoryRow]:
    # "Strong" consistency: a mean that is folded into must not miss what was just written.
    entities = client.query(
        collection,
        filter=keys_filter(dict.fromkeys(keys)),
        output_fields=list(ALL_FIELDS),
        partition_names=[partition],
        consistency_level="Strong",
        timeout=_FOLD_TIMEOUT_S,
    )
    return {entity["pk"]: HistoryRow.from_entity(entity) for entity in entities}


def _upsert(client: MilvusClient, collection: str, partition: str, rows: list[HistoryRow]) -> None:
    if rows:
        entities = [row.to_entity() for row in rows]
        client.upsert(collection, entities, partition_name=partition, timeout=_FOLD_TIMEOUT_S)
