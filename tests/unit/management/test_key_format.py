"""API keys: their format, and what is refused before it reaches the database."""

import hashlib

import pytest

from infra.crypto.secrets import display_prefix, generate_secret, hash_secret, is_well_formed


def test_a_generated_key_is_well_formed_and_unique() -> None:
    """`mp_` and 64 hex characters, 256 random bits."""
    first, second = generate_secret(), generate_secret()
    assert is_well_formed(first)
    assert len(first) == 67
    assert first != second


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "mp_",
        "mp_" + "a" * 63,
        "mp_" + "a" * 65,
        "mp_" + "A" * 64,
        "mp_" + "g" * 64,
        "mp_" + "a" * 64 + "\n",
        " mp_" + "a" * 64,
        "sk_" + "a" * 64,
        "mp_" + "١" * 64,
        "mp_' OR '1'='1" + "a" * 53,
        "mp_" + "a" * 63 + "\0",
        "\ud800" * 67,
    ],
)
def test_anything_else_is_refused(secret: str) -> None:
    """Malformed keys, injections included, never become a query."""
    assert not is_well_formed(secret)


def test_only_the_hash_and_a_prefix_are_kept() -> None:
    """The prefix is for people; the hash is of the whole key."""
    secret = generate_secret()
    assert hash_secret(secret) == hashlib.sha256(secret.encode()).digest()
    assert display_prefix(secret) == secret[:11]
