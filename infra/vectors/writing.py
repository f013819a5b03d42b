"""Read-modify-write of history rows with a Milvus client. Blocking: run on a thread."""

from collections.abc import Mapping, Sequence

from pymilvus import MilvusClient, MilvusException

from infra.vectors.rows import HistoryRow, fold, quality_fields
from infra.vectors.schema import ALL_FIELDS, keys_filter, partition_of, primary_key, scope_filter
from modelpilot.requests.records import HistoryPoint, HistoryScope, QualityUpdate

_TIMEOUT_S = 5.0
_BULK_TIMEOUT_S = 25.0


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
        there = client.query(
            collection,
            filter=keys_filter(by_key),
            output_fields=["pk"],
            partition_names=[partition],
            consistency_level="Strong",
            timeout=_BULK_TIMEOUT_S,
        )
        return _revise(client, collection, partition, {row["pk"]: by_key[row["pk"]] for row in there}, now)


def _revise(
    client: MilvusClient, collection: str, partition: str, by_key: Mapping[str, QualityUpdate], now: float
) -> int:
    # Only these fields: vectors need not travel, and what a gateway folds in meanwhile is not undone.
    changes = [quality_fields(key, update, now) for key, update in by_key.items()]
    if changes:
        client.upsert(collection, changes, partition_name=partition, partial_update=True, timeout=_BULK_TIMEOUT_S)
    return len(changes)


def delete_scope(client: MilvusClient, collection: str, scope: HistoryScope, timeout_s: float) -> None:
    """Delete the scope's rows; the partition stays, since another router may share it."""
    client.delete(collection, filter=scope_filter(scope), partition_name=partition_of(scope), timeout=timeout_s)


def _rows_by_key(client: MilvusClient, collection: str, partition: str, keys: list[str]) -> dict[str, HistoryRow]:
    # "Strong" consistency: a mean that is folded into must not miss what was just written.
    entities = client.query(
        collection,
        filter=keys_filter(dict.fromkeys(keys)),
        output_fields=list(ALL_FIELDS),
        partition_names=[partition],
        consistency_level="Strong",
        timeout=_TIMEOUT_S,
    )
    return {entity["pk"]: HistoryRow.from_entity(entity) for entity in entities}


def _upsert(client: MilvusClient, collection: str, partition: str, rows: list[HistoryRow]) -> None:
    if rows:
        entities = [row.to_entity() for row in rows]
        client.upsert(collection, entities, partition_name=partition, timeout=_TIMEOUT_S)
