"""An OpenAI chat request as a request to Gemini's generateContent."""

import re
from collections.abc import Iterator
from urllib.parse import quote

from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, object_of
from modelpilot.wire.parts import Foreign, Media, Part, Text, foreign_parts, parts_of, text_of
from modelpilot.wire.support import (
    THINKING_BUDGETS,
    json_schema_of,
    output_limit,
    reasoning_effort,
    stop_sequences,
    unknown_fields,
    untranslatable_messages,
    untranslatable_tools,
)

# Gemini's own fields, for clients that know whom they talk to.
_NATIVE = ("safetySettings", "cachedContent")
_SUPPORTED = frozenset(
    {"messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stop", "temperature", "top_p"}
    | {"top_k", "n", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"}
    | {"response_format", "reasoning_effort", *_NATIVE}
)
# Gemini 3 refuses tool calls without the signature of the thought behind them. For calls that another model made,
# Google documents this placeholder.
_NEEDS_SIGNATURES = re.compile(r"gemini-(?:[3-9]|[1-9]\d)")
_NO_SIGNATURE = "skip_thought_signature_validator"


def model_path(model: str) -> str:
    """The model's part of the URL, safe against names that hold a path."""
    kind, slash, name = model.rpartition("/")
    folder = kind if slash and kind in ("models", "tunedModels") else "models"
    return f"{folder}/{quote(name if folder == kind else model, safe='')}"


def generate_request(body: JsonObject, model: str) -> JsonObject:
    """The generateContent request for the client's `body`; see `unsupported_fields` for what has no place in it."""
    system, contents = _conversation(as_objects(body.get("messages")), model)
    request: JsonObject = {
        "contents": contents,
        "systemInstruction": {"parts": system} if system else None,
        "tools": _tools(body),
        "toolConfig": _tool_config(body),
        "generationConfig": _generation_config(body),
        **{key: body[key] for key in _NATIVE if key in body},
    }
    return {key: value for key, value in request.items() if value}


def unsupported_fields(body: JsonObject) -> list[str]:
    """The fields of an OpenAI `body` that Gemini cannot honour, in the client's spelling."""
    fields = unknown_fields(body, _SUPPORTED)
    fields += untranslatable_tools(body)
    fields += untranslatable_messages(body)
    fields += sorted({place for place, part in foreign_parts(body.get("messages")) if isinstance(part, Foreign)})
    return fields


def _conversation(messages: list[JsonObject], model: str) -> tuple[list[JsonObject], list[JsonObject]]:
    """The system parts, and the turns with adjacent ones of the same role merged, as parallel calls demand."""
    system: list[JsonObject] = []
    turns: list[JsonObject] = []
    names: dict[str, str] = {}  # id of a tool call → the function's name, which Gemini wants with the result
    for message in messages:
        role = message.get("role")
        names |= {str(call.get("id")): _name_of(call) for call in as_objects(message.get("tool_calls"))}
        parts = [_result(message, names)] if role == "tool" else list(_message_parts(message, model))
        wire_role = "model" if role == "assistant" else "user"
        if role in ("system", "developer"):
            system += parts
        elif parts and turns and turns[-1]["role"] == wire_role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": wire_role, "parts": parts})
    return system, turns


def _message_parts(message: JsonObject, model: str) -> Iterator[JsonObject]:
    for part in parts_of(message.get("content")):
        if (wire := _part(part)) is not None:
            yield wire
    if refusal := message.get("refusal"):
        yield {"text": refusal}
    unsigned = _NO_SIGNATURE if _NEEDS_SIGNATURES.search(model) else None
    for call in as_objects(message.get("tool_calls")):
        yield _function_call(call, unsigned)
        unsigned = None  # only the first of parallel calls carries a signature


def _part(part: Part) -> JsonObject | None:
    match part:
        case Text(text):
            return {"text": text}
        case Media(mime_type, data, None):
            return {"inlineData": {"mimeType": mime_type, "data": data}}
        case Media(mime_type, _, url):
            return {"fileData": {"mimeType": mime_type, "fileUri": url}}
        case Foreign():
            return None


def _name_of(call: JsonObject) -> str:
    return str(as_object(call.get("function")).get("name", ""))


def _function_call(call: JsonObject, unsigned: str | None) -> JsonObject:
    arguments = as_object(call.get("function")).get("arguments")
    wire = {"id": call.get("id"), "name": _name_of(call), "args": object_of(arguments, "arguments")}
    google = as_object(as_object(call.get("extra_content")).get("google"))
    signature = google.get("thought_signature") or unsigned
    part: JsonObject = {"functionCall": {key: value for key, value in wire.items() if value is not None}}
    return {**part, "thoughtSignature": signature} if signature else part


def _result(message: JsonObject, names: dict[str, str]) -> JsonObject:
    call_id = str(message.get("tool_call_id", ""))
    response = {
        "id": call_id,
        "name": names.get(call_id) or str(message.get("name", "")),
        "response": object_of(text_of(message.get("content")), "result"),
    }
    return {"functionResponse": {key: value for key, value in response.items() if value != ""}}


def _tools(body: JsonObject) -> list[JsonObject]:
    declarations = []
    for tool in as_objects(body.get("tools")):
        function = as_object(tool.get("function"))
        wire = {
            "name": function.get("name"),
            "description": function.get("description"),
            "parametersJsonSchema": function.get("parameters"),
        }
        declarations.append({key: value for key, value in wire.items() if value is not None})
    return [{"functionDeclarations": declarations}] if declarations else []


def _tool_config(body: JsonObject) -> JsonObject | None:
    choice = body.get("tool_choice")
    if choice is None or not body.get("tools"):
        return None
    if isinstance(choice, dict):
        name = as_object(choice.get("function")).get("name")
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}
    mode = {"required": "ANY", "none": "NONE"}.get(str(choice), "AUTO")
    return {"functionCallingConfig": {"mode": mode}}


def _generation_config(body: JsonObject) -> JsonObject:
    config = {
        "temperature": body.get("temperature"),
        "topP": body.get("top_p"),
        "topK": body.get("top_k"),
        "maxOutputTokens": output_limit(body),
        "stopSequences": stop_sequences(body) or None,
        "candidateCount": body.get("n"),
        "seed": body.get("seed"),
        "presencePenalty": body.get("presence_penalty"),
        "frequencyPenalty": body.get("frequency_penalty"),
        "responseLogprobs": body.get("logprobs") or None,
        "logprobs": body.get("top_logprobs") if body.get("logprobs") else None,
        "responseMimeType": "application/json" if _wants_json(body) else None,
        "responseJsonSchema": json_schema_of(body),
        "thinkingConfig": _thinking(reasoning_effort(body)),
    }
    return {key: value for key, value in config.items() if value is not None}


def _wants_json(body: JsonObject) -> bool:
    return as_object(body.get("response_format")).get("type") in ("json_object", "json_schema")


def _thinking(effort: str | None) -> JsonObject | None:
    if effort is None or effort not in THINKING_BUDGETS:
        return None
    return {"thinkingBudget": THINKING_BUDGETS[effort] or 0}
