"""What the vector store is to be told: points that wait, and word of those that have to go."""

from collections.abc import Awaitable, Callable, Sequence

from psycopg.rows import DictRow

from infra.db.engine import Connection, Database
from infra.db.requests.forgetting import IS_FORGOTTEN, forgotten, recounted, totals
from infra.db.requests.rows import point_from_row
from modelpilot.requests.erasure import Forgotten, PointTotals
from modelpilot.requests.records import HistoryPoint, HistoryScope

Replay = Callable[[Sequence[HistoryPoint]], Awaitable[None]]
Forget = Callable[[Forgotten], Awaitable[None]]
Rebuild = Callable[[HistoryScope, Sequence[PointTotals]], Awaitable[None]]

_REPLAY_LIMIT_S = 60.0
# One at a time, whatever workers there are: what is forgotten must not be overtaken by a point that came later, nor
# come back with one that came before.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('modelpilot-outbox', 0)) AS ours"
# A point and its row come by one statement: where the row is gone, the request was erased since.
_TAKE = f"""
SELECT o.id, o.user_id, o.point, o.embedding,
    o.point ? 'request_id' AND (r.request_id IS NULL OR {IS_FORGOTTEN.format("r")}) AS is_forgotten
FROM outbox o
LEFT JOIN requests r ON r.user_id = o.user_id AND r.request_id = o.point ->> 'request_id'
ORDER BY o.id LIMIT %s FOR UPDATE OF o SKIP LOCKED
"""  # noqa: S608  (own constants)
_DROP = "DELETE FROM outbox WHERE id = ANY(%s)"


class Outbox:
    """History points that wait for the vector store, and points that are to go from it or to be counted anew; in the
    order in which they came."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def replay(self, replay: Replay, forget: Forget, rebuild: Rebuild, limit: int = 500) -> int:
        """Hand up to `limit` entries over and delete them once that has returned; how many there were, 0 where another
        worker is at it. Gateways hear of what was deleted. Points of what was deleted meanwhile are left out.

        Entries stay where one raises. A crash in between repeats them: at least once. Raises DependencyUnavailable.
        """
        async with self._database.transaction(_REPLAY_LIMIT_S) as connection:
            locked = await (await connection.execute(_LOCK)).fetchone()
            if locked is None or not locked["ours"]:
                return 0
            rows = await (await connection.execute(_TAKE, (limit,))).fetchall()
            points: list[HistoryPoint] = []
            done: list[int] = []
            for row in rows:
                done.append(row["id"])
                if "request_id" in row["point"]:
                    points += [] if row["is_forgotten"] else [point_from_row(row)]
                    continue
                await replay(points)
                # What counts points anew must see that those before it do not wait any more.
                await connection.execute(_DROP, (done,))
                points, done = [], []
                await _carry_out(connection, row, forget, rebuild)
            if done:
                await replay(points)
                await connection.execute(_DROP, (done,))
        return len(rows)


async def _carry_out(connection: Connection, row: DictRow, forget: Forget, rebuild: Rebuild) -> None:
    entry = row["point"]
    if "forget" in entry:
        which = Forgotten(row["user_id"], entry["forget"], entry.get("model", ""))
        await forget(which)
        await forgotten(connection, which)
    else:
        scope = HistoryScope(row["user_id"], entry["recount"])
        await rebuild(scope, await totals(connection, scope, entry["points"]))
        await recounted(connection, scope, erased=entry.get("erased", False))
