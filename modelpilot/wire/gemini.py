"""Google's Gemini API: an OpenAI chat request for generateContent, and the streamed answer as OpenAI chunks."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from modelpilot.providers.manners import Manners, manners_of
from modelpilot.requests.outcome import Usage
from modelpilot.wire.chunks import choice_of, chunk_of
from modelpilot.wire.failures import classify_embedded, filtered, malformed
from modelpilot.wire.formats import WireFormat, join_url, versioned_url
from modelpilot.wire.history import NO_TEXT, fitted_history, target_of
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, object_of
from modelpilot.wire.parts import Foreign, Media, Part, Text, foreign_parts, parts_of, text_of
from modelpilot.wire.support import (
    THINKING_BUDGETS,
    choice_count,
    json_schema_of,
    output_limit,
    reasoning_effort,
    stop_sequences,
    untranslatable_messages,
    untranslatable_tools,
)
from modelpilot.wire.usage import token_count, usage_object

_API_VERSION = "v1beta"
# Gemini's own fields, for clients that know whom they talk to.
_NATIVE = ("safetySettings", "cachedContent")


def model_path(model: str) -> str:
    """The model's part of the URL, safe against names that hold a path."""
    kind, slash, name = model.rpartition("/")
    folder = kind if slash and kind in ("models", "tunedModels") else "models"
    return f"{folder}/{quote(name if folder == kind else model, safe='')}"


def embeddings_url(base_url: str) -> str:
    """Where Google's OpenAI-compatible endpoint takes requests for embeddings."""
    return join_url(versioned_url(base_url, _API_VERSION), "openai/embeddings")


def generate_request(body: JsonObject, model: str, manners: Manners | None = None) -> JsonObject:
    """The generateContent request for the client's `body`; see `unsupported_content` for what has no place in it."""
    system, contents = _conversation(fitted_history(as_objects(body.get("messages")), target_of("gemini", model)))
    request: JsonObject = {
        "contents": contents,
        "systemInstruction": {"parts": system} if system else None,
        "tools": _tools(body),
        "toolConfig": _tool_config(body),
        "generationConfig": _generation_config(body, manners or manners_of("google", "", model)),
        **{key: body[key] for key in _NATIVE if key in body},
    }
    return {key: value for key, value in request.items() if value}


def unsupported_content(body: JsonObject) -> list[str]:
    """The messages and tools of an OpenAI `body` that Gemini has nothing for, in the client's spelling."""
    fields = [*untranslatable_tools(body), *untranslatable_messages(body)]
    return fields + sorted({place for place, part in foreign_parts(body.get("messages")) if isinstance(part, Foreign)})


def _conversation(messages: list[JsonObject]) -> tuple[list[JsonObject], list[JsonObject]]:
    """The system parts, and the turns with adjacent ones of the same role merged, as parallel calls demand."""
    system: list[JsonObject] = []
    turns: list[JsonObject] = []
    names: dict[str, str] = {}  # id of a tool call → the function's name, which Gemini wants with the result
    for message in messages:
        role = message.get("role")
        names |= {str(call.get("id")): _name_of(call) for call in as_objects(message.get("tool_calls"))}
        parts = [_result(message, names)] if role == "tool" else list(_message_parts(message))
        wire_role = "model" if role == "assistant" else "user"
        if role in ("system", "developer"):
            system += parts
        elif turns and turns[-1]["role"] == wire_role:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": wire_role, "parts": parts})
    return _with_a_user(system, turns)


def _with_a_user(system: list[JsonObject], turns: list[JsonObject]) -> tuple[list[JsonObject], list[JsonObject]]:
    """The same in Gemini's rules: a user begins, and no turn is empty."""
    if not turns and system:
        return [], [{"role": "user", "parts": system}]
    if turns and turns[0]["role"] == "model":
        turns.insert(0, {"role": "user", "parts": []})
    for turn in turns:
        turn["parts"] = turn["parts"] or [{"text": NO_TEXT}]
    return system, turns


def _message_parts(message: JsonObject) -> Iterator[JsonObject]:
    for part in (*parts_of(message.get("content")), *parts_of(message.get("images"))):
        if (wire := _part(part)) is not None:
            yield wire
    for call in as_objects(message.get("tool_calls")):
        yield _function_call(call)


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


def _function_call(call: JsonObject) -> JsonObject:
    arguments = as_object(call.get("function")).get("arguments")
    wire = {"id": call.get("id"), "name": _name_of(call), "args": object_of(arguments, "arguments")}
    google = as_object(as_object(call.get("extra_content")).get("google"))
    signature = google.get("thought_signature")
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


def _generation_config(body: JsonObject, manners: Manners) -> JsonObject:
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
        "thinkingConfig": _thinking(body, manners),
    }
    return {key: value for key, value in config.items() if value is not None}


def _wants_json(body: JsonObject) -> bool:
    return as_object(body.get("response_format")).get("type") in ("json_object", "json_schema")


def _thinking(body: JsonObject, manners: Manners) -> JsonObject | None:
    effort, asked = reasoning_effort(body), as_object(body.get("thinking")).get("budget_tokens")
    if isinstance(asked, int) and manners.thinking == "budget":
        return {"thinkingBudget": asked}
    if effort is None or effort not in THINKING_BUDGETS:
        return None
    if manners.thinking == "level":
        return {"thinkingLevel": effort}
    budget = THINKING_BUDGETS[effort] or 0
    fewest, most = manners.thinking_budget or (0, budget)
    return {"thinkingBudget": min(max(budget, fewest), most) if budget else 0}


_FINISH_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "FINISH_REASON_UNSPECIFIED": "stop"}
# The model wrote a call that nobody can read: there is no answer, and a repeat may bring one.
_BROKEN_CALLS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})


class GeminiDecoder:
    """Translates one streamGenerateContent answer.

    `created` (Unix seconds) stamps the chunks and `fallback_id` names the answer where Gemini names it not.
    """

    native = False

    def __init__(
        self, created: int, fallback_id: str, expected_choices: int = 1, *, may_be_empty: bool = False
    ) -> None:
        self.may_be_empty = may_be_empty
        self._base: JsonObject = {"id": fallback_id, "created": created, "model": ""}
        self._expected = expected_choices
        self._calls: dict[int, int] = {}  # candidate → how many tool calls it has made
        self._begun: set[int] = set()
        self._reasons: dict[int, str] = {}  # candidate → the finish reason that it named last
        self._usage: JsonObject = {}
        self.ended = False
        """`[DONE]` was seen. Gemini itself ends with the connection."""

    @property
    def complete(self) -> bool:
        """Every candidate has a finish reason."""
        return len(self._reasons) >= self._expected

    @property
    def counted(self) -> bool:
        """Token counts were seen, so far or final."""
        return bool(self._usage)

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of a whole answer: one response, or the array that comes without SSE. Raises ProviderError."""
        if (error := classify_embedded(body)) is not None:
            raise error
        responses = as_objects(body) if isinstance(body, list) else as_objects([body])
        chunks = [chunk for response in responses for chunk in self.take(response)]
        self._expected = max(len(self._reasons), 1)  # fewer candidates than asked for are all that there will be
        return chunks

    def done(self) -> None:
        """`[DONE]`, which Gemini does not send, but some relays do."""
        self.ended = True

    def closing(self) -> list[JsonObject]:
        """Every candidate's finish reason, the last that it named, and the counts."""
        chunks = [chunk_of(self._base, [self._finish(*item)]) for item in self._reasons.items()]
        return [*chunks, chunk_of(self._base, [], usage=_usage_object(self._usage))] if self._usage else chunks

    def take(self, response: JsonObject) -> list[JsonObject]:
        """The chunks in one event. Raises ProviderError."""
        self._identify(response)
        candidates = as_objects(response.get("candidates"))
        if not candidates and (reason := as_object(response.get("promptFeedback")).get("blockReason")):
            raise filtered(f"the provider blocked the prompt: {reason}")
        if response.keys().isdisjoint(("candidates", "usageMetadata", "promptFeedback")):
            raise malformed("the provider sent a chunk without candidates")
        # Every response has counts so far; only the last ones are final.
        self._usage |= as_object(response.get("usageMetadata"))
        return [chunk for candidate in candidates for chunk in self._candidate(candidate)]

    def _identify(self, response: JsonObject) -> None:
        if isinstance(answer_id := response.get("responseId"), str) and answer_id:
            self._base["id"] = answer_id
        if isinstance(model := response.get("modelVersion"), str):
            self._base["model"] = model

    def _candidate(self, candidate: JsonObject) -> list[JsonObject]:
        index = token_count(candidate.get("index"))
        parts = as_objects(as_object(candidate.get("content")).get("parts"))
        deltas = [delta for part in parts if (delta := self._part(part, index))]
        if index not in self._begun:
            self._begun.add(index)
            deltas.insert(0, {"role": "assistant"})
        choices = [choice_of(delta, index=index) for delta in deltas]
        if logprobs := _logprobs(as_object(candidate.get("logprobsResult"))):
            choices.append({**choice_of({}, index=index), "logprobs": {"content": logprobs}})
        if reason := candidate.get("finishReason"):
            self._note(str(reason), index)
        return [chunk_of(self._base, [choice]) for choice in choices]

    def _part(self, part: JsonObject, index: int) -> JsonObject:
        if isinstance(call := part.get("functionCall"), dict):
            return {"tool_calls": [self._call(call, part.get("thoughtSignature"), index)]}
        if isinstance(text := part.get("text"), str) and text:
            return {"reasoning_content" if part.get("thought") else "content": text}
        if isinstance(blob := part.get("inlineData"), dict):
            url = f"data:{blob.get('mimeType')};base64,{blob.get('data')}"
            return {"images": [{"type": "image_url", "image_url": {"url": url}}]}
        return {}

    def _call(self, call: JsonObject, signature: Any, index: int) -> JsonObject:
        ordinal = self._calls.get(index, 0)
        self._calls[index] = ordinal + 1
        # Unique within a conversation and the same on a replay, since it is made of the answer's own id.
        call_id = call.get("id") or f"call_{self._base['id']}_{index}_{ordinal}"
        function = {"name": str(call.get("name", "")), "arguments": dump(as_object(call.get("args"))).decode()}
        wire: JsonObject = {"index": ordinal, "id": call_id, "type": "function", "function": function}
        # Google's own OpenAI-compatible endpoint puts the signature there, and clients send it back from there.
        return {**wire, "extra_content": {"google": {"thought_signature": signature}}} if signature else wire

    def _note(self, reason: str, index: int) -> None:
        if reason in _BROKEN_CALLS and self._expected == 1:
            raise malformed(f"the model's tool call is broken: {reason}")
        self._reasons[index] = reason

    def _finish(self, index: int, reason: str) -> JsonObject:
        finish = _FINISH_REASONS.get(reason, "content_filter")  # safety, recitation, blocklist ... all withhold text
        called = finish == "stop" and self._calls.get(index)
        return choice_of({}, index=index, finish_reason="tool_calls" if called else finish)


def _usage_object(raw: JsonObject) -> JsonObject:
    # Gemini counts thoughts beside the answer, OpenAI within it.
    thoughts = token_count(raw.get("thoughtsTokenCount"))
    return usage_object(
        Usage(
            input_tokens=token_count(raw.get("promptTokenCount")) + token_count(raw.get("toolUsePromptTokenCount")),
            output_tokens=token_count(raw.get("candidatesTokenCount")) + thoughts,
            cached_tokens=token_count(raw.get("cachedContentTokenCount")),
            reasoning_tokens=thoughts,
            audio_input_tokens=_of_modality(raw.get("promptTokensDetails"), "AUDIO"),
            audio_output_tokens=_of_modality(raw.get("candidatesTokensDetails"), "AUDIO"),
            image_input_tokens=_of_modality(raw.get("promptTokensDetails"), "IMAGE"),
            image_output_tokens=_of_modality(raw.get("candidatesTokensDetails"), "IMAGE"),
        )
    )


def _of_modality(details: Any, modality: str) -> int:
    return sum(token_count(each.get("tokenCount")) for each in as_objects(details) if each.get("modality") == modality)


def _logprobs(result: JsonObject) -> list[JsonObject]:
    tops = as_objects(result.get("topCandidates"))
    entries = []
    for position, chosen in enumerate(as_objects(result.get("chosenCandidates"))):
        top = as_objects(tops[position].get("candidates")) if position < len(tops) else []
        entries.append({**_token(chosen), "top_logprobs": [_token(candidate) for candidate in top]})
    return entries


def _token(candidate: JsonObject) -> JsonObject:
    token = str(candidate.get("token", ""))
    return {"token": token, "logprob": candidate.get("logProbability"), "bytes": list(token.encode("utf-8", "replace"))}


def _chat_url(base_url: str, model: str, whole: bool) -> str:
    method, query = ("generateContent", "") if whole else ("streamGenerateContent", "alt=sse")
    return join_url(versioned_url(base_url, _API_VERSION), f"{model_path(model)}:{method}", query)


WIRE = WireFormat(
    chat_url=_chat_url,
    headers=lambda base_url, key, request_id, body: {"x-goog-api-key": key} if key else {},
    chat_request=lambda body, model, whole, manners: generate_request(body, model, manners),
    decoder=lambda body, request_id, now_s: GeminiDecoder(
        now_s, request_id, choice_count(body), may_be_empty=bool(body.get("stop"))
    ),
    unsupported_content=unsupported_content,
)
