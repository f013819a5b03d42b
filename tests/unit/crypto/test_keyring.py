"""The keyring: what it seals opens again, only in its place, and across rotations."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.crypto.keyring import DecryptionFailed, InvalidKey, Keyring, associate, generate_key

OLD, NEW = generate_key(), generate_key()


@given(st.binary(max_size=2_000), st.binary(max_size=100))
def test_round_trip(plaintext: bytes, associated: bytes) -> None:
    """Whatever is encrypted can be read again."""
    ring = Keyring([OLD])
    assert ring.decrypt(ring.encrypt(plaintext, associated), associated) == plaintext


def test_a_ciphertext_does_not_open_in_another_place() -> None:
    """A provider key copied into another tenant's row must not work there."""
    ring = Keyring([OLD])
    sealed = ring.encrypt(b"secret", associate("alice", "openai"))
    with pytest.raises(DecryptionFailed):
        ring.decrypt(sealed, associate("bob", "openai"))


@pytest.mark.parametrize("position", [0, 5, 12, 25, -1])
def test_an_altered_ciphertext_does_not_open(position: int) -> None:
    """Every byte is authenticated: version, key id, nonce, text and tag."""
    ring = Keyring([OLD])
    sealed = bytearray(ring.encrypt(b"some secret text", b""))
    sealed[position] ^= 1
    with pytest.raises(DecryptionFailed):
        ring.decrypt(bytes(sealed), b"")


@pytest.mark.parametrize("garbage", [b"", b"\x01", b"x" * 9, b"x" * 200])
def test_garbage_is_a_clear_error(garbage: bytes) -> None:
    """A truncated or foreign column is refused without a crash."""
    with pytest.raises(DecryptionFailed):
        Keyring([OLD]).decrypt(garbage, b"")


def test_a_truncated_ciphertext_of_our_own_is_a_clear_error() -> None:
    """A header alone names a key but holds nothing."""
    ring = Keyring([OLD])
    with pytest.raises(DecryptionFailed):
        ring.decrypt(ring.encrypt(b"secret", b"")[:15], b"")


def test_rotation_reads_the_old_and_writes_the_new() -> None:
    """Putting a key in front needs no downtime."""
    sealed = Keyring([OLD]).encrypt(b"secret", b"")
    rotated = Keyring([NEW, OLD])
    assert rotated.decrypt(sealed, b"") == b"secret"
    assert not sealed.startswith(rotated.current_header)
    assert rotated.encrypt(b"secret", b"").startswith(rotated.current_header)
    with pytest.raises(DecryptionFailed, match="MODELPILOT_ENCRYPTION_KEYS"):
        Keyring([NEW]).decrypt(sealed, b"")


def test_macs_survive_a_rotation_and_differ_by_purpose() -> None:
    """Point ids and name hashes must not change when a key is put in front."""
    before, after = Keyring([OLD]), Keyring([NEW, OLD])
    assert before.mac("point", b"data") == after.mac("point", b"data")
    assert before.mac("point", b"data") != before.mac("request-name", b"data")
    assert before.mac("point", b"data") != Keyring([NEW]).mac("point", b"data")


@pytest.mark.parametrize("keys", [[], [" "], ["not base64!"], [base64.b64encode(b"short").decode()]])
def test_unusable_keys_are_refused_without_showing_them(keys: list[str]) -> None:
    """A mistake in the settings stops the start, and the message holds no key."""
    with pytest.raises(InvalidKey) as refused:
        Keyring(keys)
    assert all(key.strip() == "" or key not in str(refused.value) for key in keys)


def test_repr_shows_no_key() -> None:
    """A keyring in a log line gives nothing away."""
    assert repr(Keyring([NEW, OLD])) == "Keyring(2 keys)"


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_associated_data_is_unambiguous(one: list[str], other: list[str]) -> None:
    """("ab", "c") and ("a", "bc") name different places."""
    assert (associate(*one) == associate(*other)) == (one == other)
