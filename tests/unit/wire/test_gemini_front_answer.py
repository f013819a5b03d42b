"""Answers and streams in Gemini's format at our own door: nothing of what a model says is lost."""

import json
from typing import Any

import pytest

from modelpilot.wire.chunks import Chunk, as_chunks, choice_of, chunk_of
from modelpilot.wire.gemini_front import wants_thoughts
from modelpilot.wire.gemini_front_answer import ResponseEncoder, response_of


def completion(message: dict[str, Any], finish: str = "stop", **choice: Any) -> dict[str, Any]:
    """An OpenAI completion."""
    usage = {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"far":true}'},
    "extra_content": {"google": {"thought_signature": "c2ln"}},
}
ANSWERS = [
    completion({"content": "Hello"}),
    completion({"content": None, "refusal": "No."}, "content_filter"),
    completion({"content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}, "tool_calls"),
    completion({"content": "It is", "reasoning_content": "Hm"}, "length"),
    completion({"content": "x", "reasoning_content": "Hm", "thinking_blocks": [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "x"},
    ]}),
    completion({"content": None}),
    completion({"content": "a"}, logprobs={"content": [
        {"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.0}]},
    ]}),
]  # fmt: skip


def test_an_answer_has_googles_shape() -> None:
    """Parts, reason, counts with the thoughts beside the answer, and calls with ids and signatures."""
    called = response_of(ANSWERS[2], with_thoughts=False)
    part = {"functionCall": {"id": "call_1", "name": "look", "args": {"far": True}}, "thoughtSignature": "c2ln"}
    assert called["candidates"][0]["content"] == {
        "parts": [part, {**part, "functionCall": {**part["functionCall"], "id": "call_2"}}],  # type: ignore[dict-item]
        "role": "model",
    }
    assert called["candidates"][0]["finishReason"] == "STOP"
    assert called["usageMetadata"] == {
        "promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "cachedContentTokenCount": 4,
        "totalTokenCount": 15,
    }  # fmt: skip
    assert (called["modelVersion"], called["responseId"]) == ("m", "c")
    reasons = [response_of(each, with_thoughts=False)["candidates"][0]["finishReason"] for each in ANSWERS]
    assert reasons == ["STOP", "SAFETY", "STOP", "MAX_TOKENS", "STOP", "STOP", "STOP"]


def test_thoughts_are_shown_to_those_who_asked() -> None:
    """With the signature by which their model knows them again; what is no base64 would break Google's clients."""
    thought = {"text": "Hm", "thought": True, "thoughtSignature": "c2ln"}
    shown = response_of(ANSWERS[4], with_thoughts=True)["candidates"][0]["content"]["parts"]
    assert shown == [thought, {"text": "x"}]
    assert response_of(ANSWERS[4], with_thoughts=False)["candidates"][0]["content"]["parts"] == [{"text": "x"}]
    plain = completion({"content": "x", "thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": "?!"}]})
    assert response_of(plain, with_thoughts=True)["candidates"][0]["content"]["parts"][0] == {
        "text": "Hm",
        "thought": True,
    }
    config = {"thinking_config": {"include_thoughts": True}}
    assert wants_thoughts({"generation_config": config})
    assert not wants_thoughts({"generationConfig": {"thinkingConfig": {"includeThoughts": False}}})


def test_images_and_logprobs_of_an_answer() -> None:
    """Images of a model come as Google's do."""
    url = "data:image/png;base64,AAAA"
    image = completion({"content": None, "images": [{"type": "image_url", "image_url": {"url": url}}]})
    parts = response_of(image, with_thoughts=False)["candidates"][0]["content"]["parts"]
    assert parts == [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]
    logged = response_of(ANSWERS[6], with_thoughts=False)["candidates"][0]["logprobsResult"]
    assert logged == {
        "chosenCandidates": [{"token": "a", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1.0}]}],
    }


def streamed(chunks: list[dict[str, Any]], *, with_thoughts: bool) -> dict[str, Any]:
    """What the responses of a stream add up to, texts of the same kind joined."""
    encoder = ResponseEncoder(with_thoughts=with_thoughts)
    taken = [encoder.take(Chunk(None, json.dumps(chunk).encode(), None) if index % 2 else Chunk(chunk))
             for index, chunk in enumerate(chunks)]  # fmt: skip
    responses = [*(each for each in taken if each is not None), encoder.end("id", "model")]
    parts: list[dict[str, Any]] = []
    for part in (part for each in responses for part in each["candidates"][0]["content"]["parts"]):
        if parts and "text" in part and "text" in parts[-1] and parts[-1].get("thought") == part.get("thought"):
            parts[-1] = {**parts[-1], **part, "text": parts[-1]["text"] + part["text"]}
        elif part != {"text": ""} or not parts:
            parts.append(part)
    last = responses[-1]
    last["candidates"][0]["content"]["parts"] = parts
    return last


@pytest.mark.parametrize("with_thoughts", [True, False])
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_stream_adds_up_to_the_answer(answer: dict[str, Any], with_thoughts: bool) -> None:
    """Whatever it holds; counts and reason come with the last response."""
    assert streamed(as_chunks(answer), with_thoughts=with_thoughts) == response_of(answer, with_thoughts=with_thoughts)


def test_a_thought_is_streamed_once() -> None:
    """Claude's signed block repeats what came before it: only its signature is new."""
    base = {"id": "c", "created": 1, "model": "m"}
    block = {"type": "thinking", "thinking": "Hmm", "signature": "c2ln"}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant"}, {"reasoning_content": "H"}, {"reasoning_content": "mm"}, {"thinking_blocks": [block]},
        {"content": "So"},
    ]  # fmt: skip
    chunks = [chunk_of(base, [choice_of(delta)]) for delta in deltas]
    chunks.append(chunk_of(base, [choice_of({}, finish_reason="stop")]))
    parts = streamed(chunks, with_thoughts=True)["candidates"][0]["content"]["parts"]
    assert parts == [{"text": "Hmm", "thought": True, "thoughtSignature": "c2ln"}, {"text": "So"}]


def test_a_stream_without_a_chunk_ends_all_the_same() -> None:
    """With the names that the caller gives."""
    last = ResponseEncoder(with_thoughts=False).end("id", "model", modelpilot={"requestId": "r"})
    assert (last["responseId"], last["modelVersion"], last["modelpilot"]) == ("id", "model", {"requestId": "r"})


def test_reasoning_in_parts_is_a_thought() -> None:
    """Mistral's models put it among the parts of the content."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    expected = [{"text": "Hm", "thought": True}, {"text": "Hi"}]
    whole = completion({"content": [thinking, {"type": "text", "text": "Hi"}]})
    assert response_of(whole, with_thoughts=True)["candidates"][0]["content"]["parts"] == expected
    assert response_of(whole, with_thoughts=False)["candidates"][0]["content"]["parts"] == expected[1:]
    base = {"id": "c", "created": 1, "model": "m"}
    deltas: list[dict[str, Any]] = [{"content": [thinking]}, {"content": "Hi"}]
    chunks = [chunk_of(base, [choice_of(delta)]) for delta in deltas]
    chunks.append(chunk_of(base, [choice_of({}, finish_reason="stop")]))
    assert streamed(chunks, with_thoughts=True)["candidates"][0]["content"]["parts"] == expected


def test_a_thought_under_its_other_name_is_streamed_once() -> None:
    """OpenRouter says `reasoning`; a signed block behind it brings its signature alone."""
    base = {"id": "c", "created": 1, "model": "m"}
    block = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    deltas: list[dict[str, Any]] = [{"reasoning": "Hm"}, {"thinking_blocks": [block]}, {"content": "So"}]
    chunks = [chunk_of(base, [choice_of(delta)]) for delta in deltas]
    chunks.append(chunk_of(base, [choice_of({}, finish_reason="stop")]))
    parts = streamed(chunks, with_thoughts=True)["candidates"][0]["content"]["parts"]
    assert parts == [{"text": "Hm", "thought": True, "thoughtSignature": "c2ln"}, {"text": "So"}]
