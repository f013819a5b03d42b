"""Everything that enters Temporal is encrypted: payloads, and the messages and stack traces of failures."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    JSONPlainPayloadConverter,
    PayloadCodec,
)

from infra.crypto.keyring import Keyring

ENCODING = b"binary/encrypted"
_ASSOCIATED = b"temporal-payload"


class EncryptionCodec(PayloadCodec):
    """AES-GCM with the installation's keyring. Payloads of another encoding pass through when decoding."""

    def __init__(self, keyring: Keyring) -> None:
        super().__init__()
        self._keyring = keyring

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload, metadata included."""
        return [
            Payload(
                metadata={"encoding": ENCODING},
                data=self._keyring.encrypt(payload.SerializeToString(), _ASSOCIATED),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The payloads in clear. Raises the keyring's error where a key is missing."""
        return list(self._decoded(payloads))

    def _decoded(self, payloads: Iterable[Payload]) -> Iterable[Payload]:
        for payload in payloads:
            if payload.metadata.get("encoding") == ENCODING:
                yield Payload.FromString(self._keyring.decrypt(payload.data, _ASSOCIATED))
            else:
                yield payload


class OrjsonPayloadConverter(JSONPlainPayloadConverter):
    """The standard JSON encoding, written by orjson: `dataclasses.asdict` copies every decision deeply first."""

    def to_payload(self, value: Any) -> Payload | None:
        """Encode dataclasses and plain JSON; whatever orjson does not know goes the standard way."""
        if dataclasses.is_dataclass(value) or isinstance(value, (dict, list, str, int, float, bool)):
            try:
                return Payload(metadata={"encoding": b"json/plain"}, data=orjson.dumps(value))
            except TypeError:
                return super().to_payload(value)
        return super().to_payload(value)


class RouterPayloadConverter(CompositePayloadConverter):
    """None, bytes and JSON: all that our messages consist of."""

    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), BinaryPlainPayloadConverter(), OrjsonPayloadConverter())


def data_converter(keyring: Keyring) -> DataConverter:
    """The converter that every client and worker of ModelPilot uses."""
    return DataConverter(
        payload_converter_class=RouterPayloadConverter,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
        payload_codec=EncryptionCodec(keyring),
    )
