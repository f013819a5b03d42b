"""What clients ask for, feature by feature: rows of the table of docs/compatibility.md; `conformance_answers` has those
of what providers answer.

A feature is honoured where its `mark` arrives: in the request that the provider got, or, for what providers answer, in
the answer that the client got.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\nmark-picture").decode()
PDF = base64.b64encode(b"%PDF-1.4 mark-pdf").decode()
SOUND = base64.b64encode(b"RIFFmark-sound").decode()
SCHEMA = {
    "type": "object",
    "properties": {"mark_property": {"type": "string"}},
    "required": ["mark_property"],
    "additionalProperties": False,
}
FUNCTION = {"name": "mark_tool", "description": "Finds marks", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
CLAUDE_TOOL = {"name": "mark_tool", "description": "Finds marks", "input_schema": SCHEMA}
CALL = {
    "id": "call_00000001",
    "type": "function",
    "function": {"name": "mark_tool", "arguments": '{"mark_property":"a"}'},
}
CLAUDE_CALL = {"type": "tool_use", "id": "call_00000001", "name": "mark_tool", "input": {"mark_property": "a"}}
EPHEMERAL = {"type": "ephemeral"}


@dataclass(frozen=True)
class Feature:
    """One row. `chat` and `messages` are fields of a body in that shape, with `PROMPT` where the question stands (None:
    the shape cannot say it). `mark` is what has to arrive, by wire format where it differs. `answers` are what the
    provider says, by wire format (none: what the simulator says)."""

    name: str
    chat: Json | None = None
    messages: Json | None = None
    mark: str | Mapping[str, str] = ""
    answers: Mapping[str, list[Json]] = field(default_factory=dict)


PROMPT = "PROMPT"


def asked(content: Any, *before: Json, after: tuple[Json, ...] = ()) -> Json:
    """A body with these messages around the user's `content`."""
    return {"messages": [*before, {"role": "user", "content": content}, *after]}


def text(value: str, **more: Any) -> Json:
    """A text part, the same in both shapes."""
    return {"type": "text", "text": value, **more}


def claude_image(**source: Any) -> Json:
    """An image block."""
    return {"type": "image", "source": source}


PLAIN = asked(PROMPT)
_PARTS = [text(PROMPT), text("mark-part")]
_RESULT = {"role": "tool", "tool_call_id": "call_00000001", "content": "mark-result"}
_CLAUDE_RESULT = {"type": "tool_result", "tool_use_id": "call_00000001", "content": "mark-result"}


def _both(**fields: Any) -> Mapping[str, Json]:
    """The same field in both shapes."""
    return {"chat": {**PLAIN, **fields}, "messages": {**PLAIN, **fields}}


def _chat(**fields: Any) -> Mapping[str, Json]:
    return {"chat": {**PLAIN, **fields}}


def _claude(**fields: Any) -> Mapping[str, Json]:
    return {"messages": {**PLAIN, **fields}}


_SEARCH = {"type": "web_search_20250305", "name": "web_search"}

ASKED: tuple[Feature, ...] = (
    Feature("a text", **_both(), mark=PROMPT),
    Feature(
        "system text",
        {**asked(PROMPT, {"role": "system", "content": "mark-system"})},
        {**PLAIN, "system": "mark-system"},
        "mark-system",
    ),
    Feature("developer text", asked(PROMPT, {"role": "developer", "content": "mark-system"}), mark="mark-system"),
    Feature("text in parts", asked(_PARTS), asked(_PARTS), "mark-part"),
    Feature(
        "several turns",
        asked(PROMPT, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "mark-turn"}),
        asked(PROMPT, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "mark-turn"}),
        "mark-turn",
    ),
    Feature(
        "emoji, right to left, combining marks",
        asked(f"{PROMPT} 🎈 שלום e\u0301"),
        asked(f"{PROMPT} 🎈 שלום e\u0301"),
        "🎈 שלום e\u0301",
    ),
    Feature(
        "begun answer (prefill)",
        asked(PROMPT, after=({"role": "assistant", "content": "mark-begun"},)),
        asked(PROMPT, after=({"role": "assistant", "content": "mark-begun"},)),
        "mark-begun",
    ),
    Feature(
        "blank turn in the history",
        asked(f"{PROMPT} mark-blank", {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n"}),
        asked(f"{PROMPT} mark-blank", {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n"}),
        "mark-blank",
    ),
    Feature(
        "only a system text", {"messages": [{"role": "system", "content": f"{PROMPT} mark-only"}]}, mark="mark-only"
    ),
    Feature(
        "names of participants",
        {"messages": [{"role": "user", "name": "mark-name", "content": PROMPT}]},
        mark="mark-name",
    ),
    Feature(
        "image as data",
        asked([text(PROMPT), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]),
        asked([text(PROMPT), claude_image(type="base64", media_type="image/png", data=PICTURE)]),
        PICTURE,
    ),
    Feature(
        "image by URL",
        asked([text(PROMPT), {"type": "image_url", "image_url": {"url": "https://example.com/mark.png"}}]),
        asked([text(PROMPT), claude_image(type="url", url="https://example.com/mark.png")]),
        "https://example.com/mark.png",
    ),
    Feature(
        "PDF as data",
        asked(
            [
                text(PROMPT),
                {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
            ]
        ),
        asked(
            [
                text(PROMPT),
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
            ]
        ),
        PDF,
    ),
    Feature(
        "sound",
        asked([text(PROMPT), {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}]),
        mark=SOUND,
    ),
    Feature("tools", {**PLAIN, "tools": [TOOL]}, {**PLAIN, "tools": [CLAUDE_TOOL]}, "mark_tool"),
    Feature(
        "tool_choice: any tool",
        {**PLAIN, "tools": [TOOL], "tool_choice": "required"},
        {**PLAIN, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}},
        {"openai": '"required"', "anthropic": '"any"', "google": '"ANY"'},
    ),
    Feature(
        "tool_choice: one tool",
        {**PLAIN, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "mark_tool"}}},
        {**PLAIN, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "tool", "name": "mark_tool"}},
        {
            "openai": '"tool_choice":{"type":"function"',
            "anthropic": '"tool_choice":{"type":"tool"',
            "google": '"allowedFunctionNames":["mark_tool"]',
        },
    ),
    Feature(
        "tool_choice: none",
        {**PLAIN, "tools": [TOOL], "tool_choice": "none"},
        {**PLAIN, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "none"}},
        {"openai": '"none"', "anthropic": '"none"', "google": '"NONE"'},
    ),
    Feature(
        "no parallel calls",
        {**PLAIN, "tools": [TOOL], "parallel_tool_calls": False},
        {**PLAIN, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {"openai": '"parallel_tool_calls":false', "anthropic": '"disable_parallel_tool_use":true'},
    ),
    Feature(
        "strict function",
        {**PLAIN, "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]},
        {**PLAIN, "tools": [{**CLAUDE_TOOL, "strict": True}]},
        {"openai": '"strict":true', "anthropic": '"strict":true', "google": '"VALIDATED"'},
    ),
    Feature(
        "tool results",
        {
            **asked(PROMPT, after=({"role": "assistant", "content": None, "tool_calls": [CALL]}, _RESULT)),
            "tools": [TOOL],
        },
        {
            **asked(
                PROMPT,
                after=({"role": "assistant", "content": [CLAUDE_CALL]}, {"role": "user", "content": [_CLAUDE_RESULT]}),
            ),
            "tools": [CLAUDE_TOOL],
        },
        "mark-result",
    ),
    Feature(
        "results of parallel calls",
        {
            **asked(
                PROMPT,
                after=(
                    {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_00000002"}]},
                    {"role": "tool", "tool_call_id": "call_00000002", "content": "second"},
                    _RESULT,
                ),
            ),
            "tools": [TOOL],
        },
        {
            **asked(
                PROMPT,
                after=(
                    {"role": "assistant", "content": [CLAUDE_CALL, {**CLAUDE_CALL, "id": "call_00000002"}]},
                    {"role": "user", "content": [{**_CLAUDE_RESULT, "tool_use_id": "call_00000002"}, _CLAUDE_RESULT]},
                ),
            ),
            "tools": [CLAUDE_TOOL],
        },
        "mark-result",
    ),
    Feature(
        "a call without its result",
        {
            **asked(
                f"{PROMPT} mark-open",
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
            ),
            "tools": [TOOL],
        },
        {
            **asked(
                f"{PROMPT} mark-open",
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [CLAUDE_CALL]},
            ),
            "tools": [CLAUDE_TOOL],
        },
        "mark-open",
    ),
    Feature(
        "answer as JSON",
        PLAIN | {"response_format": {"type": "json_object"}},
        mark={"openai": "json_object", "google": "application/json"},
    ),
    Feature(
        "answer by a schema",
        {
            **PLAIN,
            "response_format": {"type": "json_schema", "json_schema": {"name": "m", "schema": SCHEMA, "strict": True}},
        },
        {**PLAIN, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "mark_property",
    ),
    Feature(
        "schema with limits of values",
        {
            **PLAIN,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "m",
                    "schema": {"type": "object", "properties": {"mark_property": {"type": "integer", "minimum": 3}}},
                },
            },
        },
        {
            **PLAIN,
            "output_config": {
                "format": {
                    "type": "json_schema",
                    "schema": {"type": "object", "properties": {"mark_property": {"type": "integer", "minimum": 3}}},
                }
            },
        },
        "mark_property",
    ),
    Feature(
        "tools and a schema",
        {
            **PLAIN,
            "tools": [TOOL],
            "response_format": {"type": "json_schema", "json_schema": {"name": "m", "schema": SCHEMA}},
        },
        {**PLAIN, "tools": [CLAUDE_TOOL], "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "mark_tool",
    ),
    Feature(
        "stop sequences", {**PLAIN, "stop": ["mark-stop"]}, {**PLAIN, "stop_sequences": ["mark-stop"]}, "mark-stop"
    ),
    Feature("blank stop sequence", {**PLAIN, "stop": ["\n"]}, {**PLAIN, "stop_sequences": ["\n"]}, '"\\n"'),
    Feature("temperature", **_both(temperature=0.3125), mark="0.3125"),
    Feature("temperature over 1", **_chat(temperature=1.3125), mark="1.3125"),
    Feature("top_p", **_both(top_p=0.8125), mark="0.8125"),
    Feature("temperature and top_p", **_both(temperature=0.3125, top_p=0.8125), mark="0.8125"),
    Feature("top_k", **_both(top_k=37), mark="37"),
    Feature("max_tokens", {**PLAIN, "max_tokens": 777}, {**PLAIN, "max_tokens": 777}, "777"),
    Feature("max_completion_tokens", **_chat(max_completion_tokens=777), mark="777"),
    Feature("no limit", **_chat(), mark=PROMPT),
    Feature("limit above the model's", {**PLAIN, "max_tokens": 900_000}, {**PLAIN, "max_tokens": 900_000}, "900000"),
    Feature("seed", **_chat(seed=4711), mark="4711"),
    Feature("n", **_chat(n=2), mark={"openai": '"n":2', "google": '"candidateCount":2'}),
    Feature(
        "logprobs",
        **_chat(logprobs=True, top_logprobs=3),
        mark={"openai": '"top_logprobs":3', "google": '"logprobs":3'},
    ),
    Feature("logit_bias", **_chat(logit_bias={"4711": 5}), mark="4711"),
    Feature("frequency_penalty", **_chat(frequency_penalty=0.3125), mark="0.3125"),
    Feature("presence_penalty", **_chat(presence_penalty=0.3125), mark="0.3125"),
    Feature("user", {**PLAIN, "user": "mark-user"}, {**PLAIN, "metadata": {"user_id": "mark-user"}}, "mark-user"),
    Feature("metadata", **_chat(metadata={"mark": "mark-meta"}), mark="mark-meta"),
    Feature("service_tier", **_chat(service_tier="flex"), mark="flex"),
    Feature("store", **_chat(store=True), mark='"store":true'),
    Feature(
        "reasoning_effort",
        {**PLAIN, "reasoning_effort": "high"},
        {**PLAIN, "output_config": {"effort": "high"}},
        {"openai": '"high"', "anthropic": "thinking", "google": "thinkingConfig"},
    ),
    Feature(
        "thinking budget",
        **_claude(thinking={"type": "enabled", "budget_tokens": 2_048}, max_tokens=8_000),
        mark={"openai": "effort", "anthropic": "2048", "google": "2048"},
    ),
    Feature("verbosity", **_chat(verbosity="low"), mark='"verbosity":"low"'),
    Feature("prompt_cache_key", **_chat(prompt_cache_key="mark-cache"), mark="mark-cache"),
    Feature(
        "cache mark on the system text",
        asked(PROMPT, {"role": "system", "content": [text("mark", cache_control=EPHEMERAL)]}),
        {**PLAIN, "system": [text("mark", cache_control=EPHEMERAL)]},
        "cache_control",
    ),
    Feature(
        "cache mark on a part",
        asked([text(PROMPT, cache_control=EPHEMERAL)]),
        asked([text(PROMPT, cache_control=EPHEMERAL)]),
        "cache_control",
    ),
    Feature(
        "cache mark on a tool",
        {**PLAIN, "tools": [{**TOOL, "cache_control": EPHEMERAL}]},
        {**PLAIN, "tools": [{**CLAUDE_TOOL, "cache_control": EPHEMERAL}]},
        "cache_control",
    ),
    Feature(
        "prediction", **_chat(prediction={"type": "content", "content": "mark-prediction"}), mark="mark-prediction"
    ),
    Feature(
        "spoken answer", **_chat(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}), mark="alloy"
    ),
    Feature(
        "search of the web", **_chat(web_search_options={"search_context_size": "low"}), mark="search_context_size"
    ),
    Feature("Anthropic's context_management", **_claude(context_management={"edits": []}), mark="context_management"),
    Feature("deferred tools", **_claude(tools=[{**CLAUDE_TOOL, "defer_loading": True}]), mark="defer_loading"),
    Feature("Anthropic's search of the web", **_claude(tools=[_SEARCH]), mark="web_search_20250305"),
    Feature(
        "PDF by URL",
        messages=asked(
            [text(PROMPT), {"type": "document", "source": {"type": "url", "url": "https://example.com/mark.pdf"}}]
        ),
        mark="https://example.com/mark.pdf",
    ),
    Feature(
        "system text among the turns",
        asked(PROMPT, after=({"role": "system", "content": "mark-later"},)),
        asked(PROMPT, after=({"role": "system", "content": "mark-later"},)),
        "mark-later",
    ),
    Feature("a field that nobody knows", **_chat(mark_field=4711), mark="mark_field"),
    Feature(
        "reasoning of another model in the history",
        asked(
            f"{PROMPT} mark-next",
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello", "reasoning_content": "thoughts", "reasoning": "thoughts"},
        ),
        mark="mark-next",
    ),
    Feature(
        "refusal in the history",
        asked(
            PROMPT, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "refusal": "mark-refusal"}
        ),
        mark="mark-refusal",
    ),
    Feature(
        "an SDK's dump of an answer",
        asked(
            f"{PROMPT} mark-dump",
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "Hello",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": None,
            },
        ),
        mark="mark-dump",
    ),
)
