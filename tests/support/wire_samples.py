"""Sample chunks of OpenAI's wire format."""

from typing import Any

import orjson

from modelpilot.wire.events import ServerSentEvent


def event(value: Any, name: str = "") -> ServerSentEvent:
    """A server-sent event with this value as JSON; bytes are taken as they are."""
    return ServerSentEvent(name, value if isinstance(value, bytes) else orjson.dumps(value))


def chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A chunk of these choices."""
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return {**base, "choices": list(choices), **fields}


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A choice of a chunk; the fields are those of its delta."""
    return {"index": index, "delta": fields, "finish_reason": finish}
