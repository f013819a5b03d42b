"""What a dialect is: the translation between a provider's wire format and the simulator's own types. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import orjson

from simulator.errors import SimError
from simulator.generate import Completion
from simulator.request import ChatRequest


class Frame(NamedTuple):
    """One server-sent event, ready to be written.

    `token`: it carries a token, so pacing waits before it. `closing`: it comes after the last token. `terminator`: it
    is the mark that the stream is complete.
    """

    data: bytes
    token: bool = False
    closing: bool = False
    terminator: bool = False


class Dialect(Protocol):
    """A provider's wire format."""

    name: str

    def parse(self, body: Mapping[str, Any], path: Mapping[str, str]) -> ChatRequest:
        """Read a request body; `path` holds the URL's variables and query. Raises `SimError` 400 naming the field."""

    def body(self, completion: Completion) -> bytes:
        """Write a whole answer."""

    def frames(self, completion: Completion) -> list[Frame]:
        """Write an answer as server-sent events."""

    def error(self, error: SimError) -> tuple[int, bytes]:
        """Write an error: the status and the body in the provider's envelope."""

    def error_frame(self, error: SimError) -> bytes:
        """Write an error that ends a running stream."""


def data_frame(value: Any) -> bytes:
    """Return `value` as an SSE event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def named_frame(event: str, value: Any) -> bytes:
    """Return `value` as an SSE event called `event`."""
    return b"event: " + event.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"
