"""The outbox: history points that wait until the vector store is back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np

from infra.db.engine import Database
from modelpilot.requests.records import HistoryPoint, HistoryScope

Replay = Callable[[Sequence[HistoryPoint]], Awaitable[None]]

_EMBEDDING_DTYPE = np.dtype("<f4")
_FIELDS = tuple(name for name in HistoryPoint.__dataclass_fields__ if name not in ("scope", "embedding"))
_REPLAY_LIMIT_S = 60.0

# Several maintenance workers may replay at once: each takes rows that no other holds.
_TAKE = "SELECT id, point, embedding FROM outbox ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"
_DROP = "DELETE FROM outbox WHERE id = ANY(%s)"


def outbox_row(point: HistoryPoint) -> tuple[dict[str, Any], bytes]:
    """The point as JSON and its embedding as little-endian float32."""
    plain = {name: getattr(point, name) for name in _FIELDS}
    plain["scope"] = {"user_id": point.scope.user_id, "router_id": point.scope.router_id}
    return plain, np.asarray(point.embedding, _EMBEDDING_DTYPE).tobytes()


def point_from_row(row: Mapping[str, Any]) -> HistoryPoint:
    """The point again."""
    plain = row["point"]
    known = {name: plain[name] for name in _FIELDS if name in plain}
    embedding = np.frombuffer(row["embedding"], _EMBEDDING_DTYPE).astype(np.float32)
    return HistoryPoint(**known, scope=HistoryScope(**plain["scope"]), embedding=embedding)


class Outbox:
    """Takes waiting points out again, in the order in which they came."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def replay(self, replay: Replay, limit: int = 500) -> int:
        """Hand up to `limit` points to `replay` and delete them once it returns; how many there were.

        They stay where `replay` raises. A crash in between repeats them: at least once. Raises DependencyUnavailable.
        """
        async with self._database.transaction(_REPLAY_LIMIT_S) as connection:
            cursor = await connection.execute(_TAKE, (limit,))
            rows = await cursor.fetchall()
            if rows:
                await replay([point_from_row(row) for row in rows])
                await connection.execute(_DROP, ([row["id"] for row in rows],))
        return len(rows)
