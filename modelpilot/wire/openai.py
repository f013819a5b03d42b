"""OpenAI's wire format, which many servers speak (Azure, Mistral, Groq, vLLM, Ollama, OpenRouter, the simulator).

The request is passed on nearly as it came, and the stream is checked chunk by chunk.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from modelpilot.wire.chunks import as_chunks
from modelpilot.wire.failures import classify_embedded, malformed
from modelpilot.wire.formats import WireFormat, join_url
from modelpilot.wire.jsonb import JsonObject, as_object
from modelpilot.wire.support import choice_count

_AZURE_SUFFIXES = (".azure.com", ".azure.us", ".azure.cn")  # public, US government, China
_MAX_CHOICE_INDEX = 1_000
_MAX_TOOL_CALL_INDEX = 10_000


def chat_request(body: JsonObject, model: str, whole: bool = False) -> JsonObject:
    """The body to send for the client's `body`: streamed, with usage, unless it is to be `whole`; otherwise untouched.

    Streaming is asked for even where the client did not, so that first-token and idle timeouts work everywhere.
    """
    if whole:
        rest = {key: value for key, value in body.items() if key not in ("modelpilot", "stream_options")}
        return {**rest, "model": model, "stream": False}
    rest = {key: value for key, value in body.items() if key != "modelpilot"}
    options = {**as_object(body.get("stream_options")), "include_usage": True}
    return {**rest, "model": model, "stream": True, "stream_options": options}


def credentials(base_url: str, key: str | None) -> Mapping[str, str]:
    """The header with the key; none without a key."""
    if not key:
        return {}
    # Azure takes its keys in a header of its own; a bearer token there would be an Entra token.
    if (urlsplit(base_url).hostname or "").rstrip(".").endswith(_AZURE_SUFFIXES):
        return {"api-key": key}
    return {"Authorization": f"Bearer {key}"}


def embeddings_url(base_url: str) -> str:
    """Where OpenAI-shaped embeddings are asked for."""
    return join_url(base_url, "embeddings")


def checked_chunk(chunk: JsonObject) -> JsonObject:
    """The chunk; its `choices` is always a list. Raises ProviderError: malformed_response."""
    if chunk.get("choices") is None:
        if not isinstance(chunk.get("usage"), dict):
            raise malformed("the provider sent a chunk without choices")
        chunk = {**chunk, "choices": []}
    if not _is_list_of(chunk["choices"], _is_choice):
        raise malformed("the provider sent a chunk with malformed choices")
    return chunk


def completion_chunks(completion: Any) -> list[JsonObject]:
    """The chunks of a whole completion from a server that ignored `stream: true`. Raises ProviderError."""
    if (error := classify_embedded(completion)) is not None:
        raise error
    choices = as_object(completion).get("choices")
    if not choices or not _is_list_of(choices, _is_whole_choice):
        raise malformed("the provider's answer is no chat completion")
    return as_chunks(completion)


class OpenAIDecoder:
    """Checks the chunks of one stream and knows when the answer is whole. `expected_choices` is the request's `n`."""

    native = True

    def __init__(self, expected_choices: int = 1) -> None:
        self._expected = expected_choices
        self._finished: set[int] = set()
        self.ended = False
        """The answer is whole and nothing more will come: `[DONE]`, or all finish reasons and then the usage."""

    @property
    def complete(self) -> bool:
        """Every choice has its finish reason: an end of the stream is now no truncation."""
        return len(self._finished) >= self._expected

    def done(self) -> None:
        """`[DONE]` was seen."""
        # Fewer choices than asked for are the server's business, but at least one must have ended.
        self.ended = True
        self._expected = min(self._expected, max(len(self._finished), 1))

    def take(self, value: JsonObject) -> list[JsonObject]:
        """The chunk in one event, checked. Raises ProviderError."""
        chunk = checked_chunk(value)
        for choice in chunk["choices"]:
            if choice.get("finish_reason"):
                self._finished.add(choice.get("index") or 0)
        self.ended = self.complete and isinstance(chunk.get("usage"), dict)
        return [chunk]

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of an answer that came as one JSON body. Raises ProviderError."""
        chunks = completion_chunks(body)
        self._expected, self.ended = 0, True
        return chunks


def _is_list_of(value: Any, check: Any) -> bool:
    return isinstance(value, list) and all(map(check, value))


def _is_index(value: Any, limit: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_choice(choice: Any) -> bool:
    if not isinstance(choice, dict) or not _is_index(choice.get("index"), _MAX_CHOICE_INDEX):
        return False
    delta = choice.get("delta")
    if delta is not None and not isinstance(delta, dict):
        return False
    return _is_text(choice.get("finish_reason")) and _is_message(delta or {})


def _is_message(delta: JsonObject) -> bool:
    content = delta.get("content")
    if not _is_text(content) and not isinstance(content, list):
        return False
    calls = delta.get("tool_calls")
    return calls is None or _is_list_of(calls, _is_tool_call)


def _is_tool_call(call: Any) -> bool:
    if not isinstance(call, dict) or not _is_index(call.get("index"), _MAX_TOOL_CALL_INDEX):
        return False
    function = call.get("function")
    return function is None or (
        isinstance(function, dict) and _is_text(function.get("name")) and _is_text(function.get("arguments"))
    )


def _is_whole_choice(choice: Any) -> bool:
    if not isinstance(choice, dict) or not _is_index(choice.get("index"), _MAX_CHOICE_INDEX):
        return False
    return isinstance(choice.get("message"), dict) and _is_message(choice["message"])


WIRE = WireFormat(
    chat_url=lambda base_url, model, whole: join_url(base_url, "chat/completions"),
    headers=lambda base_url, key, request_id: {**credentials(base_url, key), "X-Client-Request-Id": request_id},
    chat_request=chat_request,
    decoder=lambda body, request_id, now_s: OpenAIDecoder(choice_count(body)),
    unsupported_fields=lambda body: [],  # whatever it holds is passed on, and the provider says what it thinks of it
)
