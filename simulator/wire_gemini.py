"""Gemini's generateContent: parsing, answers, stream chunks, errors. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from simulator import checks, images
from simulator import request as fields
from simulator.faults import SimError, names
from simulator.generate import Choice, Completion, Frame, data_frame, thought_before
from simulator.prefix_cache import plain_blocks
from simulator.request import Called, ChatRequest, Tool, Turn
from simulator.strict import call_signature

# Gemini has no reason of its own for tool calls: they end with STOP.
_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_PLAIN_ALPHABET = str.maketrans("-_", "+/")
_MODES = {"NONE": "none", "ANY": "required"}


class Gemini:
    """The dialect of `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`."""

    name = "gemini"

    def parse(self, body: Mapping[str, Any], path: Mapping[str, str]) -> ChatRequest:
        """Read a generateContent request; the model and the method come from the URL."""
        stream = path["method"] == "streamGenerateContent"
        if stream and path.get("alt") != "sse":
            raise SimError(400, "the simulator streams with ?alt=sse only", param="alt")
        contents = fields.objects(body.get("contents"), "contents")
        if not contents:
            raise SimError(400, "contents is not specified", param="contents")
        system = fields.mapping(body.get("systemInstruction"), "systemInstruction")
        turns = (_turn(content, f"contents[{at}]") for at, content in enumerate(contents))
        talk = fields.conversation([_turn({**system, "role": "system"}, "system"), *turns])
        config = fields.mapping(body.get("generationConfig"), "generationConfig")
        calling = fields.mapping(body.get("toolConfig"), "toolConfig").get("functionCallingConfig")
        calling = fields.mapping(calling, "functionCallingConfig")
        allowed = fields.strings(calling.get("allowedFunctionNames"), "allowedFunctionNames")
        return ChatRequest(
            path["model"],
            talk.prompt,
            talk.tokens,
            talk.turns,
            talk.prefilled,
            stream=stream,
            include_usage=True,
            n=fields.whole(config, "candidateCount", 1, fields.MAX_CHOICES) or 1,
            seed=fields.whole(config, "seed", -(2**63)) or 0,
            max_tokens=fields.whole(config, "maxOutputTokens", 1),
            stop=fields.strings(config.get("stopSequences"), "stopSequences"),
            tools=tuple(tool for tool in _tools(body) if not allowed or tool.name in allowed),
            tool_choice=_MODES.get(str(calling.get("mode", "")).upper(), "auto"),
            schema=_schema(config),
            simulator=fields.mapping(body.get("simulator"), "simulator"),
            blocks=plain_blocks(body.get("tools"), [system, *contents], talk.turns),
        )

    def check(self, body: Mapping[str, Any], request: ChatRequest) -> None:
        """Raise `SimError` 400 for what Gemini refuses in any request."""
        checks.gemini(body, request.turns[1:], tuple(_tools(body)))  # The first turn is the system prompt.

    def body(self, completion: Completion) -> bytes:
        """Write a GenerateContentResponse."""
        candidates = [
            _candidate(index, _parts(choice), _REASONS[choice.finish])
            for index, choice in enumerate(completion.choices)
        ]
        return orjson.dumps(_response(completion, candidates, completion.completion_tokens))

    def frames(self, completion: Completion) -> list[Frame]:
        """Write one GenerateContentResponse per token; the last one has the finish reason. There is no terminator."""
        found, sent = [], 0
        for index, choice in enumerate(completion.choices):
            for part in _stream_parts(choice):
                sent += 1
                found.append(_frame(completion, _candidate(index, [part], None), sent, closing=False))
            last = _candidate(index, [{"text": ""}], _REASONS[choice.finish])
            found.append(_frame(completion, last, completion.completion_tokens, closing=True))
        # Closing frames go last, so that a cut in the middle never leaves a finish reason behind.
        return sorted(found, key=lambda frame: frame.closing)

    def error(self, error: SimError) -> tuple[int, bytes]:
        """Write Gemini's error envelope; a filtered prompt is a 200 with `promptFeedback`, as it is at Gemini."""
        if error.code == "content_filter":
            return 200, orjson.dumps({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": _usage(0, 0)})
        return error.status, orjson.dumps(_error(error))

    def error_frame(self, error: SimError) -> bytes:
        """Write a data event that carries the error envelope."""
        return data_frame(_error(error))


def _error(error: SimError) -> dict[str, Any]:
    return {"error": {"code": error.status, "message": error.message, "status": names(error.status)[3]}}


def _turn(content: Mapping[str, Any], place: str) -> Turn:
    parts = fields.objects(content.get("parts"), "contents.parts")
    text = "\n".join(str(part["text"]) for part in parts if "text" in part and not part.get("thought"))
    media = sum("inlineData" in part or "fileData" in part for part in parts)
    calls = (fields.mapping(part["functionCall"], "functionCall") for part in parts if "functionCall" in part)
    answers = (fields.mapping(part["functionResponse"], "name") for part in parts if "functionResponse" in part)
    return Turn(
        str(content.get("role", "user")),
        text,
        media,
        tuple(_images(parts, place)),
        calls=tuple(_called(call, "args") for call in calls),
        results=tuple(_called(answer, "response") for answer in answers),
    )


def _images(parts: list[Mapping[str, Any]], place: str) -> Iterator[str]:
    for at, part in enumerate(parts):
        inline = fields.mapping(part.get("inlineData"), "inlineData")
        media_type = str(inline.get("mimeType") or inline.get("mime_type") or "")
        if media_type.startswith("image/"):
            data = inline.get("data")  # in either alphabet, with or without its end, as in all of Google's JSON
            text = data.translate(_PLAIN_ALPHABET) if isinstance(data, str) else ""
            here = f"{place}.parts[{at}].inline_data"
            yield images.described(text + "=" * (-len(text) % 4), media_type, here, images.GEMINI)
        elif "fileData" in part:
            yield images.of_url(fields.mapping(part["fileData"], "fileData").get("fileUri"), place, images.GEMINI)


def _called(part: Mapping[str, Any], content: str) -> Called:
    """A call or its result; a result that is wrapped in one property, as Google's SDKs do it, is that property's."""
    value = part.get(content)
    if isinstance(value, Mapping) and len(value) == 1 and content == "response":
        (value,) = value.values()
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return Called(str(part.get("id") or ""), str(part.get("name", "")), text)


def _tools(body: Mapping[str, Any]) -> Iterator[Tool]:
    for group in fields.objects(body.get("tools"), "tools"):
        for function in fields.objects(group.get("functionDeclarations"), "functionDeclarations"):
            schema = function.get("parameters") or function.get("parametersJsonSchema")
            name, about = fields.text_of(function.get("name"), "name"), str(function.get("description") or "")
            yield Tool(name, fields.mapping(schema, "parameters"), about)


def _schema(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if config.get("responseMimeType") != "application/json":
        return None
    return fields.mapping(config.get("responseJsonSchema") or config.get("responseSchema"), "responseSchema")


def _parts(choice: Choice) -> list[dict[str, Any]]:
    return [*_thoughts(choice), *(_calls(choice) or [{"text": choice.text}])]


def _stream_parts(choice: Choice) -> Iterator[dict[str, Any]]:
    """Yield text token by token; a function call comes whole, as it does at Gemini."""
    yield from _thoughts(choice)
    yield from ({"text": piece} for piece in choice.pieces)
    yield from _calls(choice)


def _thoughts(choice: Choice) -> list[dict[str, Any]]:
    if not choice.thinks:
        return []
    return [{"text": thought_before(next(iter(choice.tool_calls), None)), "thought": True}]


def _calls(choice: Choice) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for each in choice.tool_calls:
        call = {"id": each.id, "name": each.name, "args": orjson.loads(each.arguments)}
        # Only the first of parallel calls carries a signature.
        signed = {"thoughtSignature": call_signature(call)} if choice.thinks and not parts else {}
        parts.append({"functionCall": call, **signed})
    return parts


def _candidate(index: int, parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    return {**shown, "finishReason": reason} if reason else shown


def _usage(prompt: int, answer: int, cached: int = 0) -> dict[str, int]:
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": answer, "totalTokenCount": prompt + answer}
    return {**counts, "cachedContentTokenCount": cached} if cached else counts


def _response(completion: Completion, candidates: list[dict[str, Any]], sent: int) -> dict[str, Any]:
    return {
        "candidates": candidates,
        "usageMetadata": _usage(completion.request.prompt_tokens, sent, completion.request.cached.read),
        "modelVersion": completion.request.model,
        "responseId": completion.id,
    }


def _frame(completion: Completion, candidate: dict[str, Any], sent: int, *, closing: bool) -> Frame:
    return Frame(data_frame(_response(completion, [candidate], sent)), token=not closing, closing=closing)
