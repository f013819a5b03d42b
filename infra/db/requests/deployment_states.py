"""What each gateway skips, told to everybody who reads the database: breakers live in the gateways' memory."""

import asyncio
from collections.abc import Callable, Sequence
from typing import LiteralString

import structlog
from psycopg.rows import DictRow

from infra.db.engine import Database, SyncConnection
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.use import DeploymentState

log = structlog.get_logger(__name__)

# Of processes that died long ago as well: those that end in peace take their own along.
_CLEAR = """
DELETE FROM deployment_states WHERE instance = %(instance)s OR instance NOT IN (
    SELECT id FROM instances WHERE heartbeat_at > clock_timestamp() - interval '1 hour')
"""
_ADD = """
INSERT INTO deployment_states
    (user_id, instance, provider, model, deployment, state, because, open_since, next_probe_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, to_timestamp(%s), to_timestamp(%s))
"""
_READ: LiteralString = """
SELECT user_id, provider, model, deployment, max(state) AS state, min(because) AS because,
    extract(epoch FROM min(open_since))::float8 AS open_since_s,
    extract(epoch FROM min(next_probe_at))::float8 AS next_probe_s, count(*) AS gateways
FROM deployment_states JOIN instances ON instances.id = instance
WHERE heartbeat_at > clock_timestamp() - interval '1 minute' AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""


class PostgresDeploymentStates:
    """The rows of one gateway process."""

    def __init__(self, database: Database, instance: str) -> None:
        self._database, self._instance = database, instance

    async def put(self, states: Sequence[DeploymentState]) -> None:
        """Replace what this process has said. Raises DependencyUnavailable."""
        async with self._database.transaction() as connection:
            await connection.execute(_CLEAR, {"instance": self._instance})
            for one in states:
                place = (one.user_id, self._instance, one.provider, one.model, one.deployment)
                times = (one.open_since_s, one.next_probe_s)
                await connection.execute(_ADD, (*place, one.state, one.because, *times))

    async def keep(self, skipped: Callable[[], Sequence[DeploymentState]], every_s: float) -> None:
        """Say what is skipped whenever it changes, until canceled."""
        said: Sequence[DeploymentState] = ()
        while True:
            await asyncio.sleep(every_s)
            now = skipped()
            if now == said:
                continue
            try:
                await self.put(now)
                said = now
            except DependencyUnavailable as error:
                log.warning("deployment_states_not_told", error=error.message)

    async def of(self, user_id: str) -> tuple[DeploymentState, ...]:
        """What living gateways skip of the owner's. Raises DependencyUnavailable."""
        return tuple(_state(row) for row in await self._database.fetch_all(_READ, {"user_id": user_id}))


def read_states(connection: SyncConnection, user_id: str | None) -> tuple[DeploymentState, ...]:
    """The same for the site, of every owner for None."""
    return tuple(_state(row) for row in connection.execute(_READ, {"user_id": user_id}).fetchall())


def _state(row: DictRow) -> DeploymentState:
    return DeploymentState(**row)
