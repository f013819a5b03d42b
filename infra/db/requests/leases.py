"""Which gateway instances are alive, and who may call a provider for a request. Time is the database's alone."""

from infra.db.engine import Database
from modelpilot.requests.records import RequestKey

_REGISTER = """
INSERT INTO instances (id, host) VALUES (%s, %s)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp(), host = excluded.host
"""

_HEARTBEAT = """
WITH before AS (SELECT heartbeat_at FROM instances WHERE id = %(instance)s)
UPDATE instances SET heartbeat_at = clock_timestamp()
WHERE id = %(instance)s
RETURNING (SELECT heartbeat_at FROM before) > clock_timestamp() - make_interval(secs => %(lease_s)s) AS kept
"""

_RELEASE = """
WITH gone AS (DELETE FROM instances WHERE id = %(instance)s)
DELETE FROM claims WHERE owner = %(instance)s
"""

_IS_ALIVE = """
SELECT heartbeat_at > clock_timestamp() - make_interval(secs => %(lease_s)s) AS alive
FROM instances WHERE id = %(instance)s
"""

# One statement decides. No claim yet: the owner named by the request must be dead (or be the claimant itself).
# A claim already: its owner must be dead or the claimant; the conflict clause checks that on the newest row.
_CLAIM = """
WITH alive AS (
    SELECT id FROM instances WHERE heartbeat_at > clock_timestamp() - make_interval(secs => %(lease_s)s)
)
INSERT INTO claims (user_id, request_id, owner)
SELECT %(user_id)s::text, %(request_id)s::text, %(instance)s::text
WHERE %(previous)s::text = %(instance)s::text
    OR NOT EXISTS (SELECT 1 FROM alive WHERE id = %(previous)s)
    OR EXISTS (SELECT 1 FROM claims WHERE user_id = %(user_id)s AND request_id = %(request_id)s)
ON CONFLICT (user_id, request_id) DO UPDATE SET owner = excluded.owner, claimed_at = clock_timestamp()
WHERE claims.owner = excluded.owner OR NOT EXISTS (SELECT 1 FROM alive WHERE id = claims.owner)
RETURNING owner
"""

_HOLDER = "SELECT owner FROM claims WHERE user_id = %s AND request_id = %s"


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

    async def is_alive(self, instance: str) -> bool:
        """Whether the instance's heartbeat is fresh (database clock)."""
        row = await self._database.fetch_one(_IS_ALIVE, {"instance": instance, "lease_s": self._lease_s})
        return row is not None and bool(row["alive"])

    async def claim(self, key: RequestKey, instance: str, previous: str) -> str:
        """Take the request over for `instance` from `previous`, the owner named by the request's input; returns who
        holds it now."""
        params = {
            "user_id": key.user_id,
            "request_id": key.request_id,
            "instance": instance,
            "previous": previous,
            "lease_s": self._lease_s,
        }
        row = await self._database.fetch_one(_CLAIM, params)
        if row is None:
            row = await self._database.fetch_one(_HOLDER, (key.user_id, key.request_id))
        return previous if row is None else str(row["owner"])
