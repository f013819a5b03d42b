"""OpenAI's wire format, which many servers speak (Azure, Mistral, Groq, vLLM, Ollama, OpenRouter, the simulator).

The request is passed on nearly as it came, and the stream is checked chunk by chunk.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from modelpilot.providers.manners import Manners
from modelpilot.wire.cache_marks import marks_on_parts, without_marks
from modelpilot.wire.chunks import as_chunks
from modelpilot.wire.failures import classify_embedded, malformed
from modelpilot.wire.formats import WireFormat, join_url
from modelpilot.wire.history import Format, fitted_history, target_of
from modelpilot.wire.jsonb import JsonObject, as_object
from modelpilot.wire.merge import CallNumbers
from modelpilot.wire.support import anthropics_tools, choice_count

_AZURE_SUFFIXES = (".azure.com", ".azure.us", ".azure.cn")  # public, US government, China
_MAX_CHOICE_INDEX = 1_000
_MAX_TOOL_CALL_INDEX = 10_000


def chat_request(
    body: JsonObject, model: str, whole: bool = False, manners: Manners | None = None, *, wire: Format = "openai"
) -> JsonObject:
    """The body to send for the client's `body`: streamed, with usage (where the model can be asked for it), unless it
    is to be `whole`; earlier turns fitted to the `model`, and without marks for caches where it does not know them;
    otherwise untouched.

    Streaming is asked for even where the client did not, so that first-token and idle timeouts work everywhere.
    """
    body = marks_on_parts(body) if manners is not None and manners.cache_marks else without_marks(body, model)
    nine, reasoning = (manners.tool_call_ids == "alphanumeric9", manners.reasoning_fields) if manners else (False, None)
    target = target_of(wire, model, nine_characters=nine, reasoning_fields=reasoning)
    body = {**body, "messages": fitted_history(body.get("messages") or [], target)}
    if whole:
        rest = {key: value for key, value in body.items() if key not in ("modelpilot", "stream_options")}
        return {**rest, "model": model, "stream": False}
    if manners is not None and manners.stream_options is False:
        rest = {key: value for key, value in body.items() if key not in ("modelpilot", "stream_options")}
        return {**rest, "model": model, "stream": True}
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
    """Checks the chunks of one stream and knows when the answer is whole.

    `expected_choices` is the request's `n`, and `answer_id` names tool calls that their server gave no name.
    """

    native = True

    def __init__(self, expected_choices: int = 1, answer_id: str = "x", *, may_be_empty: bool = False) -> None:
        self._expected, self._answer_id = expected_choices, answer_id
        self._finished: set[int] = set()
        self._calls: dict[int, CallNumbers] = {}
        self.may_be_empty = may_be_empty
        self.counted = False
        """The usage was seen."""
        self.ended = False
        """`[DONE]` was seen, or the answer came as a whole."""

    @property
    def complete(self) -> bool:
        """Every choice has a finish reason: an end of the stream is now no truncation."""
        return len(self._finished) >= self._expected

    def done(self) -> None:
        """`[DONE]` was seen."""
        # Fewer choices than asked for are the server's business, but at least one must have ended.
        self.ended = True
        self._expected = min(self._expected, max(len(self._finished), 1))

    def take(self, value: JsonObject) -> list[JsonObject]:
        """The chunk in one event, checked. Raises ProviderError."""
        chunk = checked_chunk(value)
        self.counted = self.counted or isinstance(chunk.get("usage"), dict)
        for choice in chunk["choices"]:
            if choice.get("finish_reason"):
                self._finished.add(choice.get("index") or 0)
        return [self._numbered(chunk)]

    def _numbered(self, chunk: JsonObject) -> JsonObject:
        """The chunk with its tool calls as clients need them; the very same where nothing is to be changed."""
        numbered = {}
        for place, choice in enumerate(chunk["choices"]):
            delta = choice.get("delta")
            if not delta or not (calls := delta.get("tool_calls")):
                continue
            index = choice.get("index") or 0
            if index not in self._calls:
                # OpenAI takes ids of up to 40 characters.
                self._calls[index] = CallNumbers(f"call_{self._answer_id[-24:]}_{index}")
            if (changed := self._calls[index].numbered(calls)) is not calls:
                numbered[place] = {**choice, "delta": _with_calls(delta, changed)}
        if not numbered:
            return chunk
        return {**chunk, "choices": [numbered.get(place, old) for place, old in enumerate(chunk["choices"])]}

    def closing(self) -> list[JsonObject]:
        """Nothing: all of it was in the chunks."""
        return []

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of an answer that came as one JSON body. Raises ProviderError."""
        chunks = [self._numbered(chunk) for chunk in completion_chunks(body)]
        self._expected, self.ended = 0, True
        return chunks


def _with_calls(delta: JsonObject, calls: list[JsonObject]) -> JsonObject:
    rest = {key: value for key, value in delta.items() if key != "tool_calls"}
    return {**rest, "tool_calls": calls} if calls else rest


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
    headers=lambda base_url, key, request_id, body: {**credentials(base_url, key), "X-Client-Request-Id": request_id},
    chat_request=chat_request,
    decoder=lambda body, request_id, now_s: OpenAIDecoder(
        choice_count(body), request_id, may_be_empty=bool(body.get("stop"))
    ),
    # Whatever else it holds is passed on, and the provider says what it thinks of it.
    unsupported_content=lambda body: [*anthropics_tools(body)],
)
OPENROUTER = replace(WIRE, chat_request=partial(chat_request, wire="openrouter"))
"""The same for OpenRouter, which takes the reasoning of earlier turns back."""
