"""Gemini's streamed responses as OpenAI chunks."""

from typing import Any

from modelpilot.outcome import Usage
from modelpilot.wire.chunks import choice_of, chunk_of
from modelpilot.wire.events import event_object
from modelpilot.wire.failures import classify_embedded, filtered, malformed
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump
from modelpilot.wire.sse import ServerSentEvent
from modelpilot.wire.usage import token_count, usage_object

_FINISH_REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "FINISH_REASON_UNSPECIFIED": "stop"}
# The model wrote a call that nobody can read: there is no answer, and a repeat may bring one.
_BROKEN_CALLS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})


class GeminiDecoder:
    """Translates one streamGenerateContent answer.

    `created` (Unix seconds) stamps the chunks and `fallback_id` names the answer where Gemini names it not.
    """

    def __init__(self, created: int, fallback_id: str, expected_choices: int = 1) -> None:
        self._base: JsonObject = {"id": fallback_id, "created": created, "model": ""}
        self._expected = expected_choices
        self._calls: dict[int, int] = {}  # candidate → how many tool calls it has made
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self.ended = False
        """Every candidate has its finish reason, and the token counts were seen with or after the last one."""

    @property
    def complete(self) -> bool:
        """Every candidate has its finish reason."""
        return len(self._finished) >= self._expected

    def decode(self, event: ServerSentEvent) -> list[JsonObject]:
        """The chunks in one event. Raises ProviderError."""
        return self._take(event_object(event))

    def decode_whole(self, body: Any) -> list[JsonObject]:
        """The chunks of a whole answer: one response, or the array that comes without SSE. Raises ProviderError."""
        if (error := classify_embedded(body)) is not None:
            raise error
        responses = as_objects(body) if isinstance(body, list) else as_objects([body])
        chunks = [chunk for response in responses for chunk in self._take(response)]
        self._expected = max(len(self._finished), 1)  # fewer candidates than asked for are all that there will be
        return chunks

    def _take(self, response: JsonObject) -> list[JsonObject]:
        self._identify(response)
        candidates = as_objects(response.get("candidates"))
        if not candidates and (reason := as_object(response.get("promptFeedback")).get("blockReason")):
            raise filtered(f"the provider blocked the prompt: {reason}")
        if not candidates and "usageMetadata" not in response:
            raise malformed("the provider sent a chunk without candidates")
        chunks = [chunk for candidate in candidates for chunk in self._candidate(candidate)]
        usage = response.get("usageMetadata")
        if self.complete and isinstance(usage, dict):
            # Every response has counts so far; only those at the end are final.
            self.ended = True
            chunks.append(chunk_of(self._base, [], usage=_usage_object(usage)))
        return chunks

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
            choices.append(self._finish(str(reason), index))
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

    def _finish(self, reason: str, index: int) -> JsonObject:
        if reason in _BROKEN_CALLS and self._expected == 1:
            raise malformed(f"the model's tool call is broken: {reason}")
        self._finished.add(index)
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
        )
    )


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
