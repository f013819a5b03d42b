"""Reasoning that clients carry back to us, sealed with the keyring."""

import base64
import binascii

from infra.crypto.keyring import DecryptionFailed, Keyring, associate
from modelpilot.wire.jsonb import JsonObject, as_object, dump, load


class SealedReasoning:
    """Implements `modelpilot.requests.ports.ReasoningSeal`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def seal(self, user_id: str, reasoning: JsonObject) -> str:
        """Base64 of the encrypted JSON, bound to the owner."""
        return base64.b64encode(self._keyring.encrypt(dump(reasoning), _place(user_id))).decode()

    def open(self, user_id: str, sealed: str) -> JsonObject | None:
        """The reasoning again; None for what somebody else sealed, OpenAI say, or for another owner."""
        try:
            return as_object(load(self._keyring.decrypt(base64.b64decode(sealed, validate=True), _place(user_id))))
        except (binascii.Error, ValueError, DecryptionFailed):
            return None


def _place(user_id: str) -> bytes:
    return associate("reasoning", user_id)
