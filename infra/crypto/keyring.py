"""AES-256-GCM with rotating keys, and MACs that outlive a rotation."""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modelpilot.errors import ModelPilotError

KEY_BYTES = 32
_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_NONCE_BYTES = 12
HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES


class InvalidKey(ValueError):
    """The configured encryption keys cannot be used; the message says which one, never its value."""


class DecryptionFailed(ModelPilotError):
    """What is stored cannot be decrypted: its key is missing, or it was altered or moved to another row."""

    code = "decryption_failed"


def generate_key() -> str:
    """A new random key in the configuration's spelling: base64 of 32 bytes."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _decode(position: int, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKey(f"encryption key {position} is not base64") from None
    if len(key) != KEY_BYTES:
        raise InvalidKey(f"encryption key {position} has {len(key)} bytes, not {KEY_BYTES}")
    return key


def _derive(key: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"modelpilot/" + purpose.encode()).derive(key)


class Keyring:
    """Encrypts with the newest key and decrypts with whichever key a ciphertext names.

    A ciphertext is: version (1 byte), key id (8), nonce (12), AES-256-GCM ciphertext with its tag. The associated data
    binds it to its place (owner, row), so that a ciphertext copied into another row does not decrypt.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys`: base64 of 32 bytes each, newest first. Raises InvalidKey."""
        if not keys:
            raise InvalidKey("no encryption key is configured")
        raw = [_decode(position, text.strip()) for position, text in enumerate(keys, start=1)]
        self._ciphers = {self._header(key): AESGCM(_derive(key, "encrypt")) for key in raw}
        self._current = self._header(raw[0])
        # MACs name rows and points for ever, so they must not change when a newer key is put in front.
        self._mac_root = raw[-1]
        self._mac_keys: dict[str, bytes] = {}

    @staticmethod
    def _header(key: bytes) -> bytes:
        return _VERSION + hashlib.sha256(b"modelpilot/key-id" + key).digest()[:_KEY_ID_BYTES]

    def __repr__(self) -> str:
        return f"Keyring({len(self._ciphers)} keys)"

    @property
    def current_header(self) -> bytes:
        """How every ciphertext of the newest key begins; others are due for re-encryption."""
        return self._current

    def encrypt(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt under the newest key, bound to `associated`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, plaintext, self._current + associated)
        return self._current + nonce + sealed

    def decrypt(self, ciphertext: bytes, associated: bytes) -> bytes:
        """The plaintext again. Raises DecryptionFailed."""
        header, rest = ciphertext[:HEADER_BYTES], ciphertext[HEADER_BYTES:]
        cipher = self._ciphers.get(header)
        if cipher is None:
            raise DecryptionFailed(
                f"encrypted with key {header[1:].hex() or '(none)'}, which is not configured: "
                "add the old key to the end of MODELPILOT_ENCRYPTION_KEYS"
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header + associated)
        except (InvalidTag, ValueError):
            raise DecryptionFailed("the ciphertext was altered or belongs to another row") from None

    def mac(self, purpose: str, data: bytes) -> bytes:
        """HMAC-SHA256 under a subkey of the oldest key, one per purpose: 32 bytes, stable across rotations."""
        key = self._mac_keys.get(purpose)
        if key is None:
            key = self._mac_keys[purpose] = _derive(self._mac_root, "mac/" + purpose)
        return hmac.digest(key, data, "sha256")


def associate(*parts: str) -> bytes:
    """Associated data (or MAC input) from several strings, unambiguous whatever they contain."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
