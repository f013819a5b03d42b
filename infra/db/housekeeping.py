"""Deletes what is no longer needed, in bounded batches, so that no request waits behind a long delete."""

from dataclasses import dataclass

from infra.db.engine import Database

# One day after its last heartbeat nobody can mistake an instance for a living one, whatever the clocks did.
_DEAD_INSTANCE_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows went."""

    payloads: int
    names: int
    claims: int
    instances: int
    texts: int = 0

    @property
    def total(self) -> int:
        """All together; 0 means that nothing is left to sweep."""
        return self.payloads + self.names + self.claims + self.instances + self.texts


def _delete(table: str, condition: str) -> str:
    # By ctid and with SKIP LOCKED: several workers may sweep at once, and a row in use is left for the next time.
    return f"""
        DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {table} WHERE {condition} LIMIT %(batch)s FOR UPDATE SKIP LOCKED))
    """  # noqa: S608  (own constants)


_PAYLOADS = _delete("payloads", "expires_at < now()")
_NAMES = _delete("request_names", "created_at < now() - make_interval(secs => 3600 * %(hours)s)")
_CLAIMS = _delete("claims", "claimed_at < now() - make_interval(secs => 3600 * %(hours)s)")
# What a judge wrote about a text may quote it, and goes with it.
_TEXTS = f"""
    WITH gone AS ({_delete("stored_texts", "expires_at < now()")} RETURNING user_id, request_id), words AS (
        UPDATE judgements j SET reason_encrypted = NULL FROM gone
        WHERE j.user_id = gone.user_id AND j.request_id = gone.request_id AND j.reason_encrypted IS NOT NULL)
    SELECT 1 FROM gone
"""  # noqa: S608  (own constants)
_INSTANCES = _delete("instances", "heartbeat_at < now() - make_interval(secs => 3600 * %(hours)s)")


class Housekeeping:
    """Sweeps expired rows. Names and claims are kept for `name_retention_hours`: as long as Temporal keeps its
    histories, or an Idempotency-Key would be forgotten before its workflow."""

    def __init__(self, database: Database, *, name_retention_hours: float = 7 * 24.0) -> None:
        self._database = database
        self._name_retention_hours = name_retention_hours

    async def sweep(self, batch: int = 1_000) -> Swept:
        """Delete at most `batch` rows of each kind. Raises DependencyUnavailable."""
        return Swept(
            payloads=await self._run(_PAYLOADS, batch),
            names=await self._run(_NAMES, batch, self._name_retention_hours),
            claims=await self._run(_CLAIMS, batch, self._name_retention_hours),
            instances=await self._run(_INSTANCES, batch, _DEAD_INSTANCE_HOURS),
            texts=await self._run(_TEXTS, batch),
        )

    async def _run(self, statement: str, batch: int, hours: float = 0.0) -> int:
        async with self._database.connection() as connection:
            cursor = await connection.execute(statement, {"batch": batch, "hours": hours})
            return cursor.rowcount
