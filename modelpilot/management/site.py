"""Who may use the analytics site: its users, their sessions, and what it needs to keep both.

A user of the site belongs to a tenant and sees that tenant's requests; an admin of the site sees everybody's. Times are
Unix seconds. Every method of a port raises DependencyUnavailable when the database is away.
"""

import re
from dataclasses import dataclass
from typing import Literal, Protocol

from modelpilot.errors import InvalidRequest, ModelPilotError

Role = Literal["viewer", "admin"]

IDLE_S = 12 * 3_600.0  # a session that nobody used for this long has ended
LIFETIME_S = 7 * 24 * 3_600.0  # an open page refreshes itself and is never idle: it ends after this
MIN_PASSWORD_CHARS = 12
MAX_PASSWORD_CHARS = 1_000  # more is an attempt to keep the hash busy

_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}", re.ASCII)


class WrongCredentials(ModelPilotError):
    """User name or password is wrong, or the user is disabled (deliberately not told apart)."""

    code = "wrong_credentials"


class TooManyAttempts(ModelPilotError):
    """Too many wrong passwords for this user name or from this address; `retry_after_s` says until when."""

    code = "too_many_attempts"


@dataclass(frozen=True, slots=True)
class SiteUser:
    """A user of the site. `user_id` is the tenant; `last_login_at` None: never."""

    username: str
    user_id: str
    role: Role
    active: bool
    created_at: float
    last_login_at: float | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is compared with."""

    user: SiteUser
    password_hash: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at the site. `username` None: nobody logged in, since the site is open to its operator alone."""

    username: str | None
    user_id: str
    role: Role

    def tenant(self, wanted: str | None) -> str | None:
        """Whose data is shown, None for everybody's: only an admin has a choice, whatever a URL asks for."""
        return (wanted or None) if self.role == "admin" else self.user_id


class SiteAccess(Protocol):
    """What the site reads and writes to let people in."""

    def any_user(self) -> bool:
        """Whether the site has users at all, active or not."""
        ...

    def credentials(self, username: str) -> Credentials | None:
        """None: no such user."""
        ...

    def begin_session(self, token_hash: bytes, username: str) -> None:
        """Remember a new session and the login."""
        ...

    def visitor(self, token_hash: bytes) -> Visitor | None:
        """Who has this session; None where it never was, has ended, or its user is disabled."""
        ...

    def end_session(self, token_hash: bytes) -> None:
        """Log out."""
        ...

    def reserve_attempt(self, key: bytes, limit: int, window_s: float) -> float:
        """Count an attempt before it is judged, so that many at once do not slip through.

        Returns 0.0, or for how many seconds attempts with this key are refused.
        """
        ...

    def forgive_attempt(self, key: bytes, *, all_of_them: bool) -> None:
        """The attempt was right: forget it, or all of this key."""
        ...


class PasswordHasher(Protocol):
    """Slow, salted hashes of passwords."""

    def hash(self, password: str) -> str:
        """What is stored."""
        ...

    def matches(self, stored: str, password: str) -> bool:
        """Whether `stored` is the hash of this password."""
        ...


def normalized_username(text: str) -> str:
    """The one spelling under which a user is stored. Raises InvalidRequest."""
    name = text.strip().lower()
    if _USERNAME.fullmatch(name) is None:
        raise InvalidRequest("a user name has 1 to 64 of the characters a-z 0-9 . _ @ + -", param="username")
    return name


def check_password(password: str) -> None:
    """Raises InvalidRequest for a password that is too short or too long. Length is all that is asked for."""
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidRequest(
            f"a password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS:,} characters", param="password"
        )
