"""API keys: `mp_` and 64 hex characters (256 random bits). Only their SHA-256 is stored: a random secret of this length
needs no slow hash."""

import hashlib
import re
import secrets

_FORMAT = re.compile(r"mp_[0-9a-f]{64}", re.ASCII)
_PREFIX_LENGTH = len("mp_") + 8


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
