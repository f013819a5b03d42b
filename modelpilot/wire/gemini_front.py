"""A request in Gemini's generateContent format as an OpenAI chat body, for clients that speak Google's format to us.

Fields come in camelCase or in snake_case, and one thing may stand for a list of it: Google takes all of that. What the
chat body cannot say is refused and named. What changes no answer here is left out: safety settings (every provider has
rules of its own), labels (the route makes tags of them), resolutions, and whatever Google may add beside the fields
that mean something.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from modelpilot.chat.body import MAX_MESSAGES, Objects, RequestOptions
from modelpilot.errors import InvalidRequest
from modelpilot.wire.gemini_schema import camel, json_schema, number
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, required
from modelpilot.wire.support import nearest_effort

_SAFE = str.maketrans("-_", "+/")
_WEB = re.compile(r"https?://", re.IGNORECASE)


class Open(BaseModel):
    """camelCase outside, snake_case as well; the translation names the fields that have no counterpart."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="allow", strict=True, allow_inf_nan=False, frozen=True
    )


class GenerateContentBody(Open):
    """A generateContent request; the model is in the path."""

    contents: Annotated[Objects, Field(min_length=1, max_length=MAX_MESSAGES)] | dict[str, Any]
    system_instruction: dict[str, Any] | None = None
    tools: Objects | dict[str, Any] | None = None
    tool_config: dict[str, Any] | None = None
    generation_config: dict[str, Any] | None = None
    modelpilot: RequestOptions | None = None


class CountTokensBody(Open):
    """A countTokens request: the contents alone, or a whole request."""

    contents: Objects | dict[str, Any] | None = None
    generate_content_request: dict[str, Any] | None = None


def counted(body: JsonObject) -> JsonObject:
    """The generateContent request whose tokens a countTokens `body` asks for."""
    fields = camel(body)
    inner = fields.get("generateContentRequest")
    return as_object(inner) if inner else fields


def chat_request_of(body: JsonObject, model: str, *, stream: bool) -> JsonObject:
    """The OpenAI chat body that says what the generateContent `body` says (already checked as a
    `GenerateContentBody`), for `model`.

    Raises InvalidRequest, whose `param` names what has no counterpart.
    """
    fields = camel(body)
    if fields.get("cachedContent"):
        raise InvalidRequest.at("cachedContent", "content that Google stores cannot be routed; send it in contents")
    tools, choice = _tools(fields.get("tools")), camel(camel(fields.get("toolConfig")).get("functionCallingConfig"))
    request: JsonObject = {
        "model": model,
        "messages": [*_system(fields.get("systemInstruction")), *_messages(_items(fields["contents"]))],
        **_generation(camel(fields.get("generationConfig"))),
        **(_calling(tools, choice) if tools else {}),
        "stream": stream or None,
        "modelpilot": fields.get("modelpilot"),
    }
    return {name: value for name, value in request.items() if value is not None}


def wants_thoughts(body: JsonObject) -> bool:
    """Whether the client asked to see how the model thinks."""
    config = camel(camel(camel(body).get("generationConfig")).get("thinkingConfig"))
    return config.get("includeThoughts") is True


def _items(value: Any) -> list[JsonObject]:
    return [value] if isinstance(value, dict) else as_objects(value)


def _texts(fields: JsonObject, name: str, place: str) -> list[str]:
    values = fields.get(name) or []
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise InvalidRequest.at(f"{place}.{name}", "a list of texts was expected")
    return values


# What a part may hold, and what only Google can do with it.
_FOREIGN_PARTS = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse", "videoMetadata")
_ROLES = {"user": "user", "function": "user", "tool": "user", "model": "model"}


@dataclass(slots=True)
class _Calls:
    """The calls of the conversation that wait for a result. Clients may leave out the ids: results then belong to the
    calls of their names, in order."""

    made: int = 0
    waiting: list[tuple[str, str]] = field(default_factory=list)  # id, name

    def call(self, given: Any, name: str) -> str:
        """The id of a call."""
        self.made += 1
        call_id = given if isinstance(given, str) and given else f"call_{self.made}"
        self.waiting.append((call_id, name))
        return call_id

    def result(self, given: Any, name: str) -> str:
        """The id of the call that a result answers."""
        by_name = (known for known, named in self.waiting if named == name)
        call_id = given if isinstance(given, str) and given else next(by_name, f"call_{name}")
        self.waiting = [each for each in self.waiting if each[0] != call_id]
        return call_id


def _system(content: Any) -> list[JsonObject]:
    texts = [required(part, "text", str, f"systemInstruction.{place}") for place, part in _parts(content)]
    return [{"role": "system", "content": "\n\n".join(texts)}] if any(texts) else []


def _parts(content: Any) -> Iterator[tuple[str, JsonObject]]:
    for index, part in enumerate(_items(camel(content).get("parts"))):
        yield f"parts[{index}]", camel(part)


def _messages(contents: list[JsonObject]) -> list[JsonObject]:
    """All turns, adjacent ones of the same role as one: SDKs keep every chunk of a stream as a content of its own."""
    placed = [(_role(content, index), index, content) for index, content in enumerate(contents)]
    messages: list[JsonObject] = []
    calls = _Calls()
    for role, turn in groupby(placed, key=lambda each: each[0]):
        there = list(turn)
        parts = [(f"contents[{index}].{place}", part) for _, index, each in there for place, part in _parts(each)]
        if not parts and role == "user":
            raise InvalidRequest.at(f"contents[{there[0][1]}].parts", "at least one part was expected")
        messages += [_answer(parts, calls)] if role == "model" else _question(parts, calls)
    return messages


def _role(content: JsonObject, index: int) -> str:
    role = _ROLES.get(str(content.get("role") or "user").lower())
    if role is None:
        raise InvalidRequest.at(f"contents[{index}].role", "user or model was expected")
    return role


def _question(parts: Iterable[tuple[str, JsonObject]], calls: _Calls) -> list[JsonObject]:
    """Results of functions as messages of their own, before the rest."""
    results: list[JsonObject] = []
    content: list[JsonObject] = []
    for place, part in parts:
        if "functionResponse" in part:
            results.append(_result(camel(part["functionResponse"]), f"{place}.functionResponse", calls))
        else:
            content.append(_content(part, place))
    if len(content) == 1 and content[0]["type"] == "text":
        return [*results, {"role": "user", "content": content[0]["text"]}]
    return [*results, {"role": "user", "content": content}] if content or not results else results


def _answer(parts: Iterable[tuple[str, JsonObject]], calls: _Calls) -> JsonObject:
    texts: list[str] = []
    thoughts: list[str] = []
    signed: list[JsonObject] = []
    made: list[JsonObject] = []
    for place, part in parts:
        if "functionCall" in part:
            made.append(_call(part, place, calls))
        elif part.get("thought"):
            thoughts.append(required(part, "text", str, place) if "text" in part else "")
            if signature := _signature(part):
                # A streamed thought comes in pieces, of which the last one has the signature of all.
                thinking = "".join(thoughts)[sum(len(block["thinking"]) for block in signed) :]
                signed.append({"type": "thinking", "thinking": thinking, "signature": signature})
        else:
            texts.append(required(_known(part, place), "text", str, place))
    message = {
        "role": "assistant",
        "content": "".join(texts) or None,
        "tool_calls": made,
        "reasoning_content": "".join(thoughts),
        "thinking_blocks": signed,
    }
    return {name: value for name, value in message.items() if value or name in ("role", "content")}


def _signature(part: JsonObject) -> str | None:
    signature = part.get("thoughtSignature")
    # SDKs write bytes in the alphabet of URLs, whichever they came in.
    return signature.translate(_SAFE) if isinstance(signature, str) and signature else None


def _call(part: JsonObject, place: str, calls: _Calls) -> JsonObject:
    place, fields = f"{place}.functionCall", camel(part["functionCall"])
    name, arguments = required(fields, "name", str, place), fields.get("args")
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidRequest.at(f"{place}.args", "an object was expected")
    function = {"name": name, "arguments": dump(arguments or {}).decode()}
    call = {"id": calls.call(fields.get("id"), name), "type": "function", "function": function}
    signature = _signature(part)
    return {**call, "extra_content": {"google": {"thought_signature": signature}}} if signature else call


def _result(fields: JsonObject, place: str, calls: _Calls) -> JsonObject:
    name, response = required(fields, "name", str, place), fields.get("response")
    said = response.get("result", response.get("output")) if isinstance(response, dict) and len(response) == 1 else None
    text = said if isinstance(said, str) else dump(response if response is not None else {}).decode()
    media = [_content(camel(part), f"{place}.parts[{index}]") for index, part in enumerate(_items(fields.get("parts")))]
    return {
        "role": "tool",
        "tool_call_id": calls.result(fields.get("id"), name),
        "content": [{"type": "text", "text": text}, *media] if media else text,
    }


def _known(part: JsonObject, place: str) -> JsonObject:
    for name in _FOREIGN_PARTS:
        if part.get(name) is not None:
            raise InvalidRequest.at(f"{place}.{name}", "only Google can read this; it cannot be routed")
    return part


def _content(part: JsonObject, place: str) -> JsonObject:
    _known(part, place)
    if part.get("inlineData") is not None:
        return _inline(camel(part["inlineData"]), f"{place}.inlineData")
    if part.get("fileData") is not None:
        return _file(camel(part["fileData"]), f"{place}.fileData")
    if "text" not in part:
        raise InvalidRequest.at(place, "text, inlineData, fileData, functionCall or functionResponse was expected")
    return {"type": "text", "text": required(part, "text", str, place)}


def _inline(blob: JsonObject, place: str) -> JsonObject:
    mime, data = required(blob, "mimeType", str, place).lower(), required(blob, "data", str, place).translate(_SAFE)
    data += "=" * (-len(data) % 4)
    kind, _, subtype = mime.partition("/")
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}
    if kind == "audio":
        form = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav"}.get(subtype, subtype)
        return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
    if kind == "text":
        return {"type": "text", "text": _decoded(data, place)}
    name = str(blob.get("displayName") or f"file.{subtype}")
    return {"type": "file", "file": {"filename": name, "file_data": f"data:{mime};base64,{data}"}}


def _decoded(data: str, place: str) -> str:
    try:
        return b64decode(data, validate=True).decode("utf-8", "replace")
    except ValueError:
        raise InvalidRequest.at(f"{place}.data", "base64 was expected") from None


def _file(data: JsonObject, place: str) -> JsonObject:
    url, mime = required(data, "fileUri", str, place), str(data.get("mimeType") or "image/").lower()
    if not _WEB.match(url):
        raise InvalidRequest.at(
            f"{place}.fileUri", "an http or https address was expected; files that Google stores stay there"
        )
    if mime.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    if mime != "application/pdf":
        raise InvalidRequest.at(
            f"{place}.mimeType", "only images and PDF files can be routed by their address; send inlineData"
        )
    name = str(data.get("displayName") or "file.pdf")
    return {"type": "file", "file": {"filename": name, "file_data": url}}


def _tools(tools: Any) -> list[JsonObject]:
    found: list[JsonObject] = []
    for index, tool in enumerate(_items(tools)):
        for name, value in camel(tool).items():
            if name != "functionDeclarations" and value is not None:
                raise InvalidRequest.at(f"tools[{index}].{name}", "tools that Google runs itself cannot be routed")
            found += [
                _function(camel(each), f"tools[{index}].functionDeclarations[{place}]")
                for place, each in enumerate(_items(value))
            ]
    return found


def _function(declared: JsonObject, place: str) -> JsonObject:
    parameters = declared.get("parametersJsonSchema")
    if parameters is None and declared.get("parameters") is not None:
        parameters = json_schema(declared["parameters"])
    function = {
        "name": required(declared, "name", str, place),
        "description": declared.get("description"),
        "parameters": parameters,
    }
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _calling(tools: list[JsonObject], config: JsonObject) -> JsonObject:
    """The tools and the choice among them. Of several allowed functions the others are left out: a choice names one."""
    place = "toolConfig.functionCallingConfig"
    mode, allowed = str(config.get("mode") or "AUTO").upper(), _texts(config, "allowedFunctionNames", place)
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise InvalidRequest.at(f"{place}.mode", "AUTO, ANY, NONE or VALIDATED was expected")
    if allowed and mode in ("ANY", "VALIDATED"):
        tools = [tool for tool in tools if tool["function"]["name"] in allowed]
        if not tools:
            raise InvalidRequest.at(f"{place}.allowedFunctionNames", "none of the tools has such a name")
    choice: Any = {"ANY": "required", "NONE": "none"}.get(mode)
    if mode == "ANY" and len(allowed) == 1:
        choice = {"type": "function", "function": {"name": allowed[0]}}
    return {"tools": tools, "tool_choice": choice}


# What the answer would be without: another kind of output.
_FOREIGN_OUTPUT = ("speechConfig", "imageConfig", "audioTranscriptionConfig", "translationConfig", "routingConfig")


def _generation(config: JsonObject) -> JsonObject:
    place = "generationConfig"
    for name in _FOREIGN_OUTPUT:
        if config.get(name) is not None:
            raise InvalidRequest.at(f"{place}.{name}", "this has no counterpart for the models behind this gateway")
    modalities = _texts(config, "responseModalities", place)
    if {each.upper() for each in modalities} - {"TEXT", "MODALITY_UNSPECIFIED"}:
        raise InvalidRequest.at(f"{place}.responseModalities", "only TEXT can be routed")
    logprobs = config.get("responseLogprobs") or None
    thinking = camel(config.get("thinkingConfig"))
    return {
        "temperature": number(config, "temperature", place, 0.0, 2.0),
        "top_p": number(config, "topP", place, 0.0, 1.0),
        "top_k": number(config, "topK", place, 0, whole=True),
        # Not `max_tokens`: OpenAI's reasoning models refuse that name.
        "max_completion_tokens": number(config, "maxOutputTokens", place, 1, whole=True),
        "stop": _texts(config, "stopSequences", place) or None,
        "n": number(config, "candidateCount", place, 1, 128, whole=True),
        "seed": number(config, "seed", place, whole=True),
        "presence_penalty": number(config, "presencePenalty", place, -2.0, 2.0),
        "frequency_penalty": number(config, "frequencyPenalty", place, -2.0, 2.0),
        "logprobs": logprobs,
        "top_logprobs": number(config, "logprobs", place, 0, 20, whole=True) if logprobs else None,
        "response_format": _response_format(config, place),
        "reasoning_effort": _effort(thinking, f"{place}.thinkingConfig"),
        "thinking": _budget(thinking),
    }


def _response_format(config: JsonObject, place: str) -> JsonObject | None:
    mime = config.get("responseMimeType")
    schema = config.get("responseJsonSchema")
    if schema is None and config.get("responseSchema") is not None:
        schema = json_schema(config["responseSchema"])
    if mime not in (None, "", "text/plain", "application/json"):
        raise InvalidRequest.at(f"{place}.responseMimeType", "text/plain or application/json was expected")
    if schema is not None:
        return {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}
    return {"type": "json_object"} if mime == "application/json" else None


def _budget(config: JsonObject) -> JsonObject | None:
    """The number itself, beside the effort, for models that take one."""
    budget = config.get("thinkingBudget")
    return {"type": "enabled", "budget_tokens": budget} if isinstance(budget, int) and budget > 0 else None


def _effort(config: JsonObject, place: str) -> str | None:
    """The level, else the effort whose thinking budget comes nearest to the client's; a budget of -1 leaves it open."""
    level = str(config.get("thinkingLevel") or "").lower().removeprefix("thinking_level_")
    if level in ("minimal", "low", "medium", "high"):
        return level
    if level not in ("", "unspecified"):
        raise InvalidRequest.at(f"{place}.thinkingLevel", "MINIMAL, LOW, MEDIUM or HIGH was expected")
    budget = number(config, "thinkingBudget", place, -1, whole=True)
    if budget is None or budget < 0:
        return None
    if budget == 0:
        return "none"
    return nearest_effort(budget)
