"""Who is calling: API keys, checked against the database at most once per few seconds and key."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from activities.requests.caches import SingleFlightCache
from modelpilot.errors import AuthenticationFailed, NotFound
from modelpilot.management.resources import ApiKeyRepository
from modelpilot.requests.records import Principal

_KEY_FORMAT = re.compile(r"mp_[0-9a-f]{64}")
# While the database is away, a key that was good is believed for so long, and the database is asked this often.
_MAX_STALE_SECONDS = 300.0
_RECHECK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _GoodKey:
    """Who holds a key, and when it expires (Unix seconds)."""

    principal: Principal
    expires_at: float | None


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
        self._repository, self._wall_clock = repository, wall_clock
        self._keys: SingleFlightCache[bytes, _GoodKey] = SingleFlightCache(
            ttl_seconds, monotonic, stale_if_error_s=_MAX_STALE_SECONDS, retry_s=_RECHECK_SECONDS
        )

    async def authenticate(self, presented: str | None) -> Principal:
        """The holder of the key. Raises AuthenticationFailed, and DependencyUnavailable where only the database could
        tell and it is away. A key of the wrong format costs no query.
        """
        if presented is None:
            raise AuthenticationFailed("An API key is needed: send 'Authorization: Bearer mp_...'.")
        if _KEY_FORMAT.fullmatch(presented) is None:
            raise _refused()
        digest = hashlib.sha256(presented.encode()).digest()
        key = self._keys.fresh(digest)
        if key is None:
            key = await self._keys.get(digest, lambda: self._look_up(presented))
        else:
            self._repository.touch(key.principal.api_key_id)
        if key.expires_at is not None and self._wall_clock() >= key.expires_at:
            raise _refused()
        return key.principal

    def drop(self, api_key_id: str | None = None) -> None:
        """Forget one key (by its id) or all. Lookups under way may have read the old state: they are not kept."""
        self._keys.drop(lambda _, key: key is None or api_key_id in (None, key.principal.api_key_id))

    async def _look_up(self, secret: str) -> _GoodKey:
        principal = await self._repository.authenticate(secret)
        if principal is None:
            raise _refused()
        try:
            # The principal does not say when its key expires, and that must hold inside the TTL as well.
            stored = await self._repository.get(principal.user_id, principal.api_key_id)
        except NotFound as error:  # deleted between the two queries
            raise _refused() from error
        return _GoodKey(principal, stored.expires_at)


def _refused() -> AuthenticationFailed:
    return AuthenticationFailed("The API key is not valid.")
