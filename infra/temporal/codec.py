"""Everything that enters Temporal is encrypted: payloads, and the messages and stack traces of failures."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from pydantic import TypeAdapter
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
        return [_sealed(self._keyring, payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """The payloads in clear. Raises the keyring's error where a key is missing."""
        return list(self._decoded(payloads))

    def _decoded(self, payloads: Iterable[Payload]) -> Iterable[Payload]:
        for payload in payloads:
            if payload.metadata.get("encoding") == ENCODING:
                yield Payload.FromString(self._keyring.decrypt(payload.data, _ASSOCIATED))
            else:
                yield payload


def sealed_payload(keyring: Keyring, json: bytes) -> Payload:
    """JSON as the codec encodes it, for messages that are written without the SDK's client."""
    return _sealed(keyring, Payload(metadata={"encoding": b"json/plain"}, data=json))


def _sealed(keyring: Keyring, payload: Payload) -> Payload:
    return Payload(metadata={"encoding": ENCODING}, data=keyring.encrypt(payload.SerializeToString(), _ASSOCIATED))


@lru_cache(maxsize=256)
def _adapter(type_hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type_hint)


class OrjsonPayloadConverter(JSONPlainPayloadConverter):
    """The standard JSON encoding, written by orjson (`dataclasses.asdict` copies every decision deeply first), and our
    dataclasses read by pydantic (the standard way asks for their type hints field by field, with every message)."""

    def to_payload(self, value: Any) -> Payload | None:
        """Encode dataclasses and plain JSON; whatever orjson does not know goes the standard way."""
        if dataclasses.is_dataclass(value) or isinstance(value, (dict, list, str, int, float, bool)):
            try:
                return Payload(metadata={"encoding": b"json/plain"}, data=orjson.dumps(value))
            except TypeError:
                return super().to_payload(value)
        return super().to_payload(value)

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """Decode a dataclass; whatever is none goes the standard way."""
        if type_hint is None or not dataclasses.is_dataclass(type_hint):
            return super().from_payload(payload, type_hint)
        # Not by orjson: an answer may have integers that it would turn into floats.
        return _adapter(type_hint).validate_python(json.loads(payload.data))


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
