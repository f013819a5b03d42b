"""Which processes are alive, and which of them may make a provider call. Time is the database's alone."""

import asyncio

import structlog

from infra.db.engine import Database
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.records import RequestKey

log = structlog.get_logger(__name__)

_REGISTER = """
INSERT INTO instances (id, host) VALUES (%s, %s)
ON CONFLICT (id) DO UPDATE
SET heartbeat_at = clock_timestamp(), kept_since = clock_timestamp(), host = excluded.host
"""

_HEARTBEAT = """
WITH before AS (
    SELECT heartbeat_at > clock_timestamp() - make_interval(secs => %(lease_s)s) AS kept
    FROM instances WHERE id = %(instance)s
)
UPDATE instances SET heartbeat_at = clock_timestamp(),
    kept_since = CASE WHEN (SELECT kept FROM before) THEN kept_since ELSE clock_timestamp() END
WHERE id = %(instance)s
RETURNING (SELECT kept FROM before) AS kept
"""

_RELEASE = """
WITH gone AS (DELETE FROM instances WHERE id = %(instance)s),
    unsaid AS (DELETE FROM deployment_states WHERE instance = %(instance)s)
DELETE FROM claims WHERE owner = %(instance)s
"""

# One statement decides, on the newest rows. A call that is recorded, or whose request has ended, is made by nobody.
# While the database was away nobody could renew a lease, so only who has held its own without a gap for as long as a
# lease lasts believes that another one is dead.
_CLAIM = """
WITH alive AS (
    SELECT id FROM instances WHERE heartbeat_at > clock_timestamp() - make_interval(secs => %(lease_s)s)
), me AS (
    SELECT id FROM instances WHERE id = %(instance)s
        AND kept_since < clock_timestamp() - make_interval(secs => %(lease_s)s)
)
INSERT INTO claims (user_id, request_id, seq, owner)
SELECT %(user_id)s::text, %(request_id)s::text, %(seq)s::integer, %(instance)s::text
WHERE NOT EXISTS (SELECT FROM requests WHERE user_id = %(user_id)s AND request_id = %(request_id)s)
    AND NOT EXISTS (
        SELECT FROM attempts WHERE user_id = %(user_id)s AND request_id = %(request_id)s AND seq = %(seq)s)
    AND (%(owner)s::text IS NULL OR %(owner)s::text = %(instance)s::text
        OR (EXISTS (SELECT FROM me) AND NOT EXISTS (SELECT FROM alive WHERE id = %(owner)s)))
ON CONFLICT (user_id, request_id, seq) DO UPDATE SET owner = excluded.owner, claimed_at = clock_timestamp()
WHERE claims.owner = excluded.owner
    OR (EXISTS (SELECT FROM me) AND NOT EXISTS (SELECT FROM alive WHERE id = claims.owner))
RETURNING owner
"""


class PostgresLeases:
    """Implements `modelpilot.requests.ports.Leases`. An instance is alive for `lease_seconds` after each heartbeat."""

    def __init__(self, database: Database, *, lease_seconds: float = 15.0) -> None:
        self._database = database
        self._lease_s = lease_seconds

    async def register(self, instance: str, host: str) -> None:
        """Make the instance alive. Call before the first request."""
        await self._database.fetch_all(_REGISTER, (instance, host))

    async def heartbeat(self, instance: str) -> bool:
        """Renew the lease. False where it had lapsed meanwhile (or was never there): others may have taken over this
        instance's requests, and a missing instance must `register` again."""
        params = {"instance": instance, "lease_s": self._lease_s}
        row = await self._database.fetch_one(_HEARTBEAT, params)
        return row is not None and bool(row["kept"])

    async def release(self, instance: str) -> None:
        """Clean shutdown: the instance is dead at once, and so are its claims."""
        await self._database.fetch_all(_RELEASE, {"instance": instance})

    async def claim_call(self, key: RequestKey, seq: int, instance: str, owner: str | None = None) -> bool:
        """Commit that `instance` makes call `seq` of the request. `owner`: who may make it as long as it lives (None:
        whoever claims it first). False where another living process has it, or where there is nothing to call for."""
        params = {
            "user_id": key.user_id,
            "request_id": key.request_id,
            "seq": seq,
            "instance": instance,
            "owner": owner,
            "lease_s": self._lease_s,
        }
        return await self._database.fetch_one(_CLAIM, params) is not None

    async def keep(self, instance: str, host: str, every_s: float) -> None:
        """Renew the lease until canceled. A lapsed one means that others may have taken over: it is taken anew."""
        while True:
            await asyncio.sleep(every_s)
            try:
                if not await self.heartbeat(instance):
                    log.error("lease_lapsed", instance=instance)
                    await self.register(instance, host)
            except DependencyUnavailable:
                log.warning("heartbeat_failed", instance=instance)
