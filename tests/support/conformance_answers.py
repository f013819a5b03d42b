"""What providers answer, as the events of a stream, feature by feature: rows of the table of docs/compatibility.md."""

from typing import Any

from tests.support.conformance import CALL, CLAUDE_CALL, PICTURE, PLAIN, Feature, Json, text


def _openai(*deltas: Json, finish: str = "stop", usage: Json | None = None, **choice: Any) -> list[Json]:
    top = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    counts = {"prompt_tokens": 2_000, "completion_tokens": 10, "total_tokens": 2_010, **(usage or {})}
    return [
        *({**top, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]} for delta in deltas),
        {**top, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {**top, "choices": [], "usage": counts},
    ]


def _claude_says(*blocks: Json, stop: str = "end_turn", usage: Json | None = None) -> list[Json]:
    counts = {"input_tokens": 2_000, "output_tokens": 1, **(usage or {})}
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
    }
    events: list[Json] = [{"type": "message_start", "message": {**message, "usage": counts}}]
    for index, block in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": stop, "stop_sequence": None}
    return [
        *events,
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 10}},
        {"type": "message_stop"},
    ]


def _gemini(*parts: Json, finish: str = "STOP", usage: Json | None = None) -> list[Json]:
    counts = {"promptTokenCount": 2_000, "candidatesTokenCount": 10, "totalTokenCount": 2_010, **(usage or {})}
    candidate = {"index": 0, "content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return [{"candidates": [candidate], "usageMetadata": counts, "responseId": "r1"}]


def _tool_deltas(*ids: str) -> list[Json]:
    return [{"tool_calls": [{**CALL, "index": index, "id": each}]} for index, each in enumerate(ids)]


_GEMINI_CALL = {"functionCall": {"name": "mark_tool", "args": {"mark_property": "a"}}}
_SAID = {"content": "It is so."}

ANSWERED: tuple[Feature, ...] = (
    Feature(
        "text",
        mark="mark-text",
        answers={
            "openai": _openai({"content": "mark-text"}),
            "anthropic": _claude_says(text("mark-text")),
            "google": _gemini({"text": "mark-text"}),
        },
    ),
    Feature(
        "a call",
        mark="mark_tool",
        answers={
            "openai": _openai(*_tool_deltas("call_1"), finish="tool_calls"),
            "anthropic": _claude_says(CLAUDE_CALL, stop="tool_use"),
            "google": _gemini(_GEMINI_CALL),
        },
    ),
    Feature(
        "parallel calls",
        mark="mark_second",
        answers={
            "openai": _openai(
                *_tool_deltas("call_1"),
                {
                    "tool_calls": [
                        {
                            "index": 1,
                            "id": "call_2",
                            "type": "function",
                            "function": {"name": "mark_second", "arguments": "{}"},
                        }
                    ]
                },
                finish="tool_calls",
            ),
            "anthropic": _claude_says(
                CLAUDE_CALL, {**CLAUDE_CALL, "id": "toolu_2", "name": "mark_second"}, stop="tool_use"
            ),
            "google": _gemini(_GEMINI_CALL, {"functionCall": {"name": "mark_second", "args": {}}}),
        },
    ),
    Feature(
        "reasoning",
        mark="mark-thought",
        answers={
            "openai": _openai({"reasoning_content": "mark-thought"}, _SAID),
            "anthropic": _claude_says(
                {"type": "thinking", "thinking": "mark-thought", "signature": "c2ln"}, text("It is so.")
            ),
            "google": _gemini({"text": "mark-thought", "thought": True}, {"text": "It is so."}),
        },
        messages={**PLAIN, "thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 4_000},
    ),
    Feature("refusal", mark="mark-refusal", answers={"openai": _openai({"refusal": "mark-refusal"})}),
    Feature(
        "cut at the limit",
        mark={"chat": '"length"', "messages": '"max_tokens"'},
        answers={
            "openai": _openai(_SAID, finish="length"),
            "anthropic": _claude_says(text("It is so."), stop="max_tokens"),
            "google": _gemini({"text": "It is so."}, finish="MAX_TOKENS"),
        },
    ),
    Feature(
        "stopped by the content filter",
        mark={"chat": '"content_filter"', "messages": '"refusal"'},
        answers={
            "openai": _openai(_SAID, finish="content_filter"),
            "anthropic": _claude_says(text("It is so."), stop="refusal"),
            "google": _gemini({"text": "It is so."}, finish="SAFETY"),
        },
    ),
    Feature(
        "tokens read from a cache",
        mark="1717",
        answers={
            "openai": _openai(_SAID, usage={"prompt_tokens_details": {"cached_tokens": 1_717}}),
            "anthropic": _claude_says(text("It is so."), usage={"cache_read_input_tokens": 1_717}),
            "google": _gemini({"text": "It is so."}, usage={"cachedContentTokenCount": 1_717}),
        },
    ),
    Feature(
        "tokens written to a cache",
        mark="1913",
        answers={
            "anthropic": _claude_says(text("It is so."), usage={"cache_creation_input_tokens": 1_913}),
        },
    ),
    Feature(
        "log probabilities",
        mark={"chat": "-0.3125"},
        answers={
            "openai": _openai(
                _SAID,
                logprobs={
                    "content": [{"token": "It", "logprob": -0.3125, "bytes": None, "top_logprobs": []}],
                    "refusal": None,
                },
            ),
        },
    ),
    Feature(
        "sources",
        mark={"chat": "https://example.com/mark"},
        answers={
            "openai": _openai(
                {
                    **_SAID,
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "url": "https://example.com/mark",
                                "title": "m",
                                "start_index": 0,
                                "end_index": 2,
                            },
                        }
                    ],
                }
            ),
        },
    ),
    Feature(
        "a picture",
        mark={"chat": PICTURE},
        answers={
            "openai": _openai(
                {
                    "content": "Here.",
                    "images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}],
                }
            ),
            "google": _gemini({"text": "Here."}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}),
        },
    ),
)
