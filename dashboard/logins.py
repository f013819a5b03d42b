"""Logging in and out: passwords against hashes, cookies against sessions, with a brake on guesses. No HTTP here."""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable

from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.management.site import (
    MAX_PASSWORD_CHARS,
    Credentials,
    PasswordHasher,
    SiteAccess,
    TooManyAttempts,
    Visitor,
    WrongCredentials,
    normalized_username,
)

# Wrong passwords in a quarter of an hour. The second is higher since a whole office may share an address.
ATTEMPTS_PER_USERNAME, ATTEMPTS_PER_ADDRESS = 10, 50
WINDOW_S = 900.0
# How long a session stays good while Postgres cannot be asked: long enough for a restart, and what the pages read
# then is nothing but their own notice that the database is away.
_TRUST_WITHOUT_DATABASE_S = 600.0
_MOST_REMEMBERED = 1_000
_TOKEN_BYTES = 32


class Logins:
    """Who may come in. May be used from many threads."""

    def __init__(self, access: SiteAccess, hasher: PasswordHasher, clock: Callable[[], float] = time.monotonic) -> None:
        self._access, self._hasher, self._clock = access, hasher, clock
        # Compared with where a user is unknown, so that this takes as long as a wrong password does.
        self._nobodys_hash = hasher.hash(secrets.token_urlsafe())
        self._lock = threading.Lock()
        self._seen: dict[bytes, tuple[Visitor, float]] = {}
        self._has_users: bool | None = None

    def has_users(self) -> bool:
        """Whether the site has users; while the database is away, what it said last. Raises DependencyUnavailable."""
        try:
            self._has_users = self._access.any_user()
        except DependencyUnavailable:
            if self._has_users is None:
                raise
        return self._has_users

    def log_in(self, username: str, password: str, address: str) -> str:
        """A new session's token. Raises WrongCredentials, TooManyAttempts, DependencyUnavailable."""
        name = _known_form(username)
        keys = _key("username", name), _key("address", address)
        for key, limit in zip(keys, (ATTEMPTS_PER_USERNAME, ATTEMPTS_PER_ADDRESS), strict=True):
            wait_s = self._access.reserve_attempt(key, limit, WINDOW_S)
            if wait_s > 0:
                raise TooManyAttempts("Too many attempts. Try again later.", retry_after_s=wait_s)
        credentials = self._access.credentials(name)
        if not self._right(credentials, password):
            raise WrongCredentials("User name or password is wrong.")
        self._access.forgive_attempt(keys[0], all_of_them=True)
        self._access.forgive_attempt(keys[1], all_of_them=False)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._access.begin_session(_digest(token), name)
        return token

    def _right(self, credentials: Credentials | None, password: str) -> bool:
        stored = credentials.password_hash if credentials else self._nobodys_hash
        matches = self._hasher.matches(stored, password[:MAX_PASSWORD_CHARS])
        return matches and credentials is not None and credentials.user.active

    def log_out(self, token: str) -> None:
        """End the session everywhere. Raises DependencyUnavailable."""
        with self._lock:
            self._seen.pop(_digest(token), None)
        self._access.end_session(_digest(token))

    def visitor(self, token: str | None) -> Visitor | None:
        """Who holds this token, None for nobody. Raises DependencyUnavailable."""
        if not token:
            return None
        digest = _digest(token)
        try:
            visitor = self._access.visitor(digest)
        except DependencyUnavailable:
            remembered = self._remembered(digest)
            if remembered is None:
                raise
            return remembered
        self._remember(digest, visitor)
        return visitor

    def _remembered(self, digest: bytes) -> Visitor | None:
        with self._lock:
            visitor, seen_at = self._seen.get(digest, (None, 0.0))
        return visitor if self._clock() - seen_at < _TRUST_WITHOUT_DATABASE_S else None

    def _remember(self, digest: bytes, visitor: Visitor | None) -> None:
        with self._lock:
            self._seen.pop(digest, None)
            if visitor is not None:
                self._seen[digest] = visitor, self._clock()
            while len(self._seen) > _MOST_REMEMBERED:
                self._seen.pop(next(iter(self._seen)))


def csrf_token(token: str) -> str:
    """What forms of a session carry: only its holder can know it, and it says nothing about the token."""
    return hashlib.sha256(b"csrf:" + token.encode()).hexdigest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _key(kind: str, value: str) -> bytes:
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "surrogatepass")).digest()


def _known_form(username: str) -> str:
    # A name that cannot exist takes the same way as one that does not.
    try:
        return normalized_username(username)
    except InvalidRequest:
        return ""
