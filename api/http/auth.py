"""Who is calling: API keys, checked against the database at most once per few seconds and key."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from modelpilot.errors import AuthenticationFailed, DependencyUnavailable, NotFound
from modelpilot.management.resources import ApiKeyRepository
from modelpilot.requests.records import Principal

_KEY_FORMAT = re.compile(r"mp_[0-9a-f]{64}")
_MAX_ENTRIES = 10_000
# While the database is away, a key that was good is believed for so long, and the database is asked this often.
_MAX_STALE_SECONDS = 300.0
_RECHECK_SECONDS = 1.0


@dataclass(slots=True)
class _Entry:
    """`confirmed_at` and `fresh_until` are monotonic seconds, `expires_at` Unix seconds."""

    principal: Principal
    expires_at: float | None
    confirmed_at: float
    fresh_until: float


class CachedAuthenticator:
    """Remembers good keys, by their SHA-256, for `ttl_seconds`: that is how long a revocation made by another process
    can go unnoticed where its notification is lost. Refusals are not remembered, so a new key works at once.
    """

    def __init__(
        self,
        repository: ApiKeyRepository,
        ttl_seconds: float = 5.0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._repository = repository
        self._ttl_seconds = ttl_seconds
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._entries: dict[bytes, _Entry] = {}
        self._lookups: dict[bytes, asyncio.Task[_Entry | None]] = {}

    async def authenticate(self, presented: str | None) -> Principal:
        """The holder of the key. Raises AuthenticationFailed, and DependencyUnavailable where only the database could
        tell and it is away. A key of the wrong format costs no query.
        """
        if presented is None:
            raise AuthenticationFailed("An API key is needed: send 'Authorization: Bearer mp_...'.")
        if _KEY_FORMAT.fullmatch(presented) is None:
            raise _refused()
        digest = hashlib.sha256(presented.encode()).digest()
        entry = self._entries.get(digest)
        if entry is None or self._monotonic() >= entry.fresh_until:
            entry = await self._confirm(digest, presented, entry)
        else:
            self._repository.touch(entry.principal.api_key_id)
        if entry is None or self._is_expired(entry):
            raise _refused()
        return entry.principal

    def drop(self, api_key_id: str | None = None) -> None:
        """Forget one key (by its id) or all. Lookups under way may have read the old state: they are not kept."""
        self._lookups.clear()
        kept = {} if api_key_id is None else self._entries
        self._entries = {digest: entry for digest, entry in kept.items() if entry.principal.api_key_id != api_key_id}

    async def _confirm(self, digest: bytes, secret: str, known: _Entry | None) -> _Entry | None:
        """Ask the database, once for all who wait for the same key; fall back on what was known while it is away."""
        task = self._lookups.get(digest)
        if task is None:
            task = asyncio.create_task(self._look_up(secret))
            self._lookups[digest] = task
            task.add_done_callback(lambda done: self._finish(digest, done))
        try:
            # Shielded: a client that leaves must not cancel the lookup of those who share it.
            return await asyncio.shield(task)
        except DependencyUnavailable:
            now = self._monotonic()
            # Not `known` alone: it may have been dropped, for a revocation, while we waited.
            believed = known is not None and self._entries.get(digest) is known
            if known is None or not believed or now - known.confirmed_at >= _MAX_STALE_SECONDS:
                raise
            known.fresh_until = now + _RECHECK_SECONDS
            return known

    async def _look_up(self, secret: str) -> _Entry | None:
        asked_at = self._monotonic()
        principal = await self._repository.authenticate(secret)
        if principal is None:
            return None
        try:
            # The principal does not say when its key expires, and that must hold inside the TTL as well.
            stored = await self._repository.get(principal.user_id, principal.api_key_id)
        except NotFound:  # deleted between the two queries
            return None
        return _Entry(principal, stored.expires_at, asked_at, asked_at + self._ttl_seconds)

    def _finish(self, digest: bytes, task: "asyncio.Task[_Entry | None]") -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._lookups.get(digest) is not task:  # `drop` came in between
            return
        del self._lookups[digest]
        if not failed:
            self._keep(digest, task.result())

    def _keep(self, digest: bytes, entry: _Entry | None) -> None:
        self._entries.pop(digest, None)
        if entry is not None:
            self._entries[digest] = entry
            if len(self._entries) > _MAX_ENTRIES:
                del self._entries[next(iter(self._entries))]  # the oldest

    def _is_expired(self, entry: _Entry) -> bool:
        return entry.expires_at is not None and self._wall_clock() >= entry.expires_at


def _refused() -> AuthenticationFailed:
    return AuthenticationFailed("The API key is not valid.")
