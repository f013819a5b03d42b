"""A request in OpenAI's Responses format as an OpenAI chat body, for clients that speak that format to us.

`ResponsesBody` is checked where the translation relies on it. What only OpenAI can do (its own tools, its files, stored
conversations, work in the background) is refused and named. Fields that change no answer, and unknown ones, are left
out.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelpilot.chat.body import MAX_MESSAGES, Objects, RequestOptions
from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject, as_object, required
from modelpilot.wire.responses_input import Opened, messages_of
from modelpilot.wire.responses_tools import Toolbox, choose

_AS_IT_IS = (
    *("model", "stream", "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "service_tier", "modelpilot"),
)
SEALED_REASONING, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
_REFUSED = {
    "background": "nothing is run in the background here; leave it out and stream the answer",
    "conversation": "conversations are not kept here; use previous_response_id, or send the items",
    "prompt": "prompt templates stored at OpenAI cannot be read from here; send instructions and input",
}


class ResponsesBody(BaseModel):
    """A Responses request, with `model: router/{routerId}` or a model of the catalogue."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)

    model: Annotated[str, Field(min_length=1)]
    input: str | Annotated[list[dict[str, Any]], Field(max_length=MAX_MESSAGES, fail_fast=True)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    tools: Objects | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[str], Field(fail_fast=True)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    modelpilot: RequestOptions | None = None


def check(body: JsonObject) -> None:
    """Raise InvalidRequest for what a Responses request may say, but nobody here can do."""
    for name, reason in _REFUSED.items():
        if body.get(name):
            raise InvalidRequest.at(name, reason)
    if not body.get("input") and body.get("previous_response_id") is None:
        raise InvalidRequest.at("input", "text or a list of items was expected")


def includes(body: JsonObject, what: str) -> bool:
    """Whether the client asked for `what` in its answer."""
    return what in (body.get("include") or ())


def chat_request_of(
    body: JsonObject, items: Sequence[JsonObject], box: Toolbox, opened: Opened, before: int = 0
) -> JsonObject:
    """The chat body that says what `body` says (already checked as a `ResponsesBody`) with these `items`, of which the
    first `before` are of earlier requests. Raises InvalidRequest, whose `param` names what cannot be said.
    """
    tools, tool_choice = choose(box, body.get("tool_choice"))
    text, top_logprobs = as_object(body.get("text")), body.get("top_logprobs")
    request: JsonObject = {
        **{name: body.get(name) for name in _AS_IT_IS},
        "messages": messages_of(items, body.get("instructions"), opened, before),
        "max_completion_tokens": body.get("max_output_tokens"),
        "tools": tools or None,
        "tool_choice": tool_choice,
        "reasoning_effort": as_object(body.get("reasoning")).get("effort"),
        "response_format": _response_format(as_object(text.get("format"))),
        "verbosity": text.get("verbosity"),
        "logprobs": True if top_logprobs or includes(body, LOGPROBS) else None,
        "top_logprobs": top_logprobs or None,
    }
    return {name: value for name, value in request.items() if value is not None}


def _response_format(wanted: JsonObject) -> JsonObject | None:
    match wanted.get("type"):
        case None | "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            schema = {
                key: wanted.get(key) for key in ("description", "schema", "strict") if wanted.get(key) is not None
            }
            return {
                "type": "json_schema",
                "json_schema": {"name": required(wanted, "name", str, "text.format"), **schema},
            }
    raise InvalidRequest.at("text.format.type", "text, json_object or json_schema was expected")
