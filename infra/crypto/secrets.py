"""Secrets by which callers are known: API keys, and the passwords of the analytics site.

An API key is `mp_` and 64 hex characters (256 random bits). Only its SHA-256 is stored: a random secret of this length
needs no slow hash. A password does, and gets argon2id (RFC 9106's second recommendation: 64 MiB, three passes).
"""

import hashlib
import re
import secrets
import threading

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

_FORMAT = re.compile(r"mp_[0-9a-f]{64}", re.ASCII)
_PREFIX_LENGTH = len("mp_") + 8
_HASHED_AT_ONCE = 2  # each password takes 64 MiB and a core for a moment: a crowd of guesses has to queue


def generate_secret() -> str:
    """A new API key, to be shown once."""
    return "mp_" + secrets.token_hex(32)


def is_well_formed(secret: str) -> bool:
    """Whether this can be an API key at all; anything else is refused before a query is made."""
    return _FORMAT.fullmatch(secret) is not None


def hash_secret(secret: str) -> bytes:
    """What is stored instead of the secret: 32 bytes."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def display_prefix(secret: str) -> str:
    """The beginning of the key, for people to recognize it by; 224 bits stay unknown."""
    return secret[:_PREFIX_LENGTH]


class Argon2Hasher:
    """Implements `modelpilot.management.site.PasswordHasher`. May be used from many threads."""

    def __init__(self) -> None:
        self._argon2 = argon2.PasswordHasher()
        self._turn = threading.BoundedSemaphore(_HASHED_AT_ONCE)

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
