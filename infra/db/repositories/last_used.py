"""When API keys were last used: noted in memory, written every now and then, since each request would be a write."""

import asyncio
import logging
import time

from infra.db.engine import Database
from infra.db.rows import moment
from modelpilot.errors import DependencyUnavailable

_FLUSH_EVERY_S = 10.0
_LOG = logging.getLogger(__name__)

_WRITE = """
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at)
FROM unnest(%s::text[], %s::timestamptz[]) AS used (id, at) WHERE k.id = used.id
"""


class LastUsed:
    """The newest use of each key since the last write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used_at: dict[str, float] = {}
        self._flush: asyncio.Task[None] | None = None
        self._next_flush = 0.0  # monotonic seconds

    def note(self, api_key_id: str) -> None:
        """The key was used now. Starts a write where the last one is long ago."""
        self._used_at[api_key_id] = time.time()
        idle = self._flush is None or self._flush.done()
        if idle and time.monotonic() >= self._next_flush:
            self._next_flush = time.monotonic() + _FLUSH_EVERY_S
            self._flush = asyncio.create_task(self._flush_quietly(), name="api-keys-last-used")

    async def flush(self) -> None:
        """Write now. What cannot be written is kept for the next time. Raises DependencyUnavailable."""
        noted, self._used_at = self._used_at, {}
        if not noted:
            return
        try:
            await self._database.fetch_all(_WRITE, (list(noted), [moment(at) for at in noted.values()]))
        except DependencyUnavailable:
            self._used_at = {**noted, **self._used_at}
            raise

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except DependencyUnavailable:
            _LOG.info("last use of API keys is written later: Postgres is away")

    async def close(self) -> None:
        """Write what is left, if Postgres is there."""
        if self._flush is not None:
            await self._flush
        await self._flush_quietly()
