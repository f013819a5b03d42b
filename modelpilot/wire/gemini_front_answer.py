"""Answers for clients of Google's format: a completion as a GenerateContentResponse, chunks as a stream of those."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, object_of
from modelpilot.wire.parts import reasoning_of, text_of
from modelpilot.wire.usage import parse_usage

# Google has no reason of its own for calls.
_FINISH_REASONS = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_DATA_URL = re.compile(r"data:([^;,]+);base64,")


def response_of(completion: JsonObject, *, with_thoughts: bool) -> JsonObject:
    """The GenerateContentResponse that says what `completion` says. Thoughts are left out unless asked for."""
    choices = [(choice, as_object(choice.get("message"))) for choice in as_objects(completion.get("choices"))]
    return {
        "candidates": [_candidate(each, [*_said(said, with_thoughts), *_calls(said)]) for each, said in choices],
        "usageMetadata": usage_of(completion.get("usage")),
        "modelVersion": completion.get("model"),
        "responseId": completion.get("id"),
    }


def usage_of(usage: Any) -> JsonObject:
    """Token counts: Google counts thoughts beside the answer, OpenAI within it."""
    counts = parse_usage(usage)
    shown = {
        "promptTokenCount": counts.input_tokens,
        "candidatesTokenCount": counts.output_tokens - counts.reasoning_tokens,
        "totalTokenCount": counts.total_tokens,
    }
    more = {"thoughtsTokenCount": counts.reasoning_tokens, "cachedContentTokenCount": counts.cached_tokens}
    return shown | {name: count for name, count in more.items() if count}


class ResponseEncoder:
    """Translates the chunks of one stream. Calls go out whole, at the end, as Google's clients expect them."""

    def __init__(self, *, with_thoughts: bool) -> None:
        self._with_thoughts = with_thoughts
        self._assembler = ChunkAssembler()
        self._named: JsonObject = {}
        self._thinking: set[int] = set()  # choices whose thought is out, but for its signature

    def take(self, chunk: Chunk) -> JsonObject | None:
        """The response with what the next chunk brings; None where that is nothing to show yet."""
        if chunk.text is not None and self._named:
            return {"candidates": [_begun(0, [{"text": chunk.text}])], **self._named}
        data = chunk.data
        self._named = self._named or {"modelVersion": data.get("model"), "responseId": data.get("id")}
        self._assembler.add(data)
        said = ((choice.get("index") or 0, self._pieces(choice)) for choice in as_objects(data.get("choices")))
        candidates = [_begun(index, parts) for index, parts in said if parts]
        return {"candidates": candidates, **self._named} if candidates else None

    def _pieces(self, choice: JsonObject) -> list[JsonObject]:
        index, delta = choice.get("index") or 0, as_object(choice.get("delta"))
        blocks = as_objects(delta.get("thinking_blocks"))
        if blocks and index in self._thinking:
            self._thinking.discard(index)
            delta = {**delta, "thinking_blocks": [{**block, "thinking": ""} for block in blocks]}
        elif reasoning_of(delta) and not blocks:
            self._thinking.add(index)
        return list(_said(delta, self._with_thoughts))

    def end(self, response_id: str, model: str, **fields: Any) -> JsonObject:
        """The last response: calls, why each candidate ended, and the token counts; with `fields` beside. Id and model
        serve an empty stream."""
        completion = self._assembler.result()
        choices = as_objects(completion["choices"])
        return {
            "candidates": [_candidate(choice, _calls(as_object(choice.get("message")))) for choice in choices],
            "usageMetadata": usage_of(completion.get("usage")),
            **(self._named or {"modelVersion": model, "responseId": response_id}),
            **fields,
        }


def _begun(index: int, parts: list[JsonObject]) -> JsonObject:
    return {"content": {"parts": parts, "role": "model"}, "index": index}


def _candidate(choice: JsonObject, parts: Iterable[JsonObject]) -> JsonObject:
    reason = _FINISH_REASONS.get(str(choice.get("finish_reason")), "STOP")
    # Not every client looks whether there is a part.
    shown = {**_begun(choice.get("index") or 0, [*parts] or [{"text": ""}]), "finishReason": reason}
    tokens = as_objects(as_object(choice.get("logprobs")).get("content"))
    return {**shown, "logprobsResult": _logprobs(tokens)} if tokens else shown


def _said(message: JsonObject, with_thoughts: bool) -> Iterator[JsonObject]:
    """Thoughts, text and images of a message or delta."""
    if with_thoughts:
        yield from _thoughts(message)
    for text in (text_of(message.get("content")), message.get("refusal")):
        if text:
            yield {"text": text}
    for image in as_objects(message.get("images")):
        url = str(as_object(image.get("image_url")).get("url"))
        if match := _DATA_URL.match(url):
            yield {"inlineData": {"mimeType": match[1], "data": url[match.end() :]}}


def _thoughts(message: JsonObject) -> Iterator[JsonObject]:
    """A signed block has its text, or stands behind it in a stream."""
    blocks = [each for each in as_objects(message.get("thinking_blocks")) if each.get("type") == "thinking"]
    for block in blocks:
        signature = _signature(block.get("signature"))
        yield {"text": block.get("thinking") or "", "thought": True, **signature}
    if not blocks and (reasoning := reasoning_of(message)):
        yield {"text": reasoning, "thought": True}


def _signature(signature: Any) -> JsonObject:
    """Clients read it as bytes in base64, and refuse the whole answer where it is none."""
    is_base64 = isinstance(signature, str) and len(signature) % 4 == 0 and _BASE64.fullmatch(signature)
    return {"thoughtSignature": signature} if is_base64 else {}


def _calls(message: JsonObject) -> Iterator[JsonObject]:
    for call in as_objects(message.get("tool_calls")):
        function = as_object(call.get("function"))
        made = {"id": call.get("id"), "name": function.get("name")}
        arguments = object_of(function.get("arguments"), "arguments")
        google = as_object(as_object(call.get("extra_content")).get("google"))
        yield {"functionCall": {**made, "args": arguments}, **_signature(google.get("thought_signature"))}


def _logprobs(tokens: list[JsonObject]) -> JsonObject:
    return {
        "chosenCandidates": [_token(each) for each in tokens],
        "topCandidates": [
            {"candidates": [_token(top) for top in as_objects(each.get("top_logprobs"))]} for each in tokens
        ],
    }


def _token(entry: JsonObject) -> JsonObject:
    return {"token": entry.get("token"), "logProbability": entry.get("logprob")}
