"""Passwords of the analytics site: argon2id (RFC 9106's second recommendation: 64 MiB, three passes)."""

import threading

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

_AT_ONCE = 2  # each takes 64 MiB and a core for a moment: a crowd of guesses has to queue


class Argon2Hasher:
    """Implements `modelpilot.management.site.PasswordHasher`. May be used from many threads."""

    def __init__(self) -> None:
        self._argon2 = argon2.PasswordHasher()
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, password: str) -> str:
        """A hash with a salt of its own, in PHC format."""
        with self._turn:
            return self._argon2.hash(password)

    def matches(self, stored: str, password: str) -> bool:
        """Whether this password has the stored hash."""
        with self._turn:
            try:
                return self._argon2.verify(stored, password)
            except (VerificationError, InvalidHashError):
                return False
