"""Answers for clients of OpenAI's Responses format: an OpenAI completion as a Response.

`responses_stream` writes the same from the chunks of a stream.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modelpilot.wire.identity import RESPONSE
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump, object_of
from modelpilot.wire.parts import reasoning_of, text_of
from modelpilot.wire.responses_chain import item_id
from modelpilot.wire.responses_front import LOGPROBS, SEALED_REASONING, includes
from modelpilot.wire.responses_tools import ClientTool, Toolbox, custom_input
from modelpilot.wire.usage import parse_usage, token_count

Seal = Callable[[JsonObject], str]

# What a message has beside its reasoning. All else is what the provider wants back at the next turn.
_SHOWN = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "audio", "annotations", "citations", "images"}
)
_CALL_SHOWN = frozenset({"index", "id", "type", "function"})
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})
_ANNOTATION = ("start_index", "end_index", "title", "url")


@dataclass(frozen=True, slots=True)
class Asked:
    """A Responses request, as far as its answer shows it: `body` without the input. `stored`: it can be gone on from;
    `seal` makes the `encrypted_content` of reasoning."""

    request_id: str
    body: JsonObject
    created_at: int
    seal: Seal
    tools: Toolbox = field(default_factory=Toolbox)
    stored: bool = True

    @property
    def sealed(self) -> bool:
        """Whether reasoning is to have its `encrypted_content`."""
        return includes(self.body, SEALED_REASONING)

    @property
    def summarized(self) -> bool:
        """Whether reasoning is to be shown as a summary, else it is shown as what it is."""
        wanted = as_object(self.body.get("reasoning"))
        return bool(wanted.get("summary") or wanted.get("generate_summary"))

    @property
    def with_logprobs(self) -> bool:
        """Whether texts are to have their log probabilities."""
        return bool(self.body.get("top_logprobs")) or includes(self.body, LOGPROBS)


def response_of(asked: Asked, completion: JsonObject, completed_at: float | None = None) -> JsonObject:
    """The Response that says what the first choice of `completion` says. Times are Unix seconds; None: now."""
    choice = first_choice(completion)
    finish = choice.get("finish_reason")
    return response_object(
        asked,
        ended_as(finish),
        output_of(asked, completion, sealed=asked.sealed),
        model=completion.get("model"),
        usage=usage_of(completion.get("usage")),
        service_tier=completion.get("service_tier"),
        incomplete_details=incomplete_details(finish),
        completed_at=int(time.time() if completed_at is None else completed_at),
    )


def output_of(asked: Asked, completion: JsonObject, *, sealed: bool) -> list[JsonObject]:
    """The output items: reasoning, the message, calls."""
    choice = first_choice(completion)
    message, status = as_object(choice.get("message")), item_status(choice.get("finish_reason"))
    calls = as_objects(message.get("tool_calls"))
    items: list[JsonObject] = []
    kept = kept_reasoning(message, calls) if sealed else {}
    if (text := reasoning_of(message)) or kept:
        items.append(reasoning_item(asked, 0, text, kept))
    logprobs = as_object(choice.get("logprobs")).get("content")
    parts = (
        [text_part(text, logprobs if asked.with_logprobs else None, message.get("annotations"))]
        if (text := text_of(message.get("content")))
        else []
    )
    if refusal := message.get("refusal"):
        parts.append({"type": "refusal", "refusal": refusal})
    if parts or not (calls or items):
        items.append(message_item(asked, 0, parts or [text_part("")], status))
    return items + [
        call_item(asked, number, call_id_of(call, asked, number), as_object(call.get("function")), status)
        for number, call in enumerate(calls)
    ]


def response_object(asked: Asked, status: str, output: list[JsonObject], **fields: Any) -> JsonObject:
    """The Response with everything that the request said; `fields` are further ones, and stand against those."""
    body = asked.body
    echoed = {name: body.get(name) for name in _ECHOED}
    defaults = {name: default if body.get(name) is None else body[name] for name, default in _DEFAULTS.items()}
    reasoning, text = as_object(body.get("reasoning")), as_object(body.get("text"))
    tier = fields.pop("service_tier", None)
    return {
        "id": f"{RESPONSE}{asked.request_id}",
        "object": "response",
        "created_at": asked.created_at,
        "completed_at": None,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        **echoed,
        **defaults,
        "output": output,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": tier if tier in _TIERS else "default",
        "store": asked.stored,
        "text": {"format": {"type": "text"}, **{key: value for key, value in text.items() if value is not None}},
        "tools": [_shown_tool(tool) for tool in as_objects(body.get("tools"))],
        "usage": None,
        **fields,
    }


_ECHOED = (
    *("instructions", "max_output_tokens", "max_tool_calls", "model", "previous_response_id", "prompt_cache_key"),
    *("safety_identifier", "user"),
)
_DEFAULTS: JsonObject = {
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}


def _shown_tool(tool: JsonObject) -> JsonObject:
    return {"description": None, "parameters": None, "strict": None, **tool} if tool.get("type") == "function" else tool


def first_choice(completion: JsonObject) -> JsonObject:
    """The choice that a Response shows."""
    return next(iter(as_objects(completion.get("choices"))), {})


def ended_as(finish: Any) -> str:
    """The status of a Response whose choice ended so."""
    return "incomplete" if finish in _INCOMPLETE else "completed"


item_status = ended_as  # items have the same words


def incomplete_details(finish: Any) -> JsonObject | None:
    """Why a Response is incomplete; None where it is not."""
    return {"reason": _INCOMPLETE[finish]} if finish in _INCOMPLETE else None


def usage_of(usage: Any) -> JsonObject:
    """Token counts by their names here."""
    counts = parse_usage(usage)
    written = token_count(as_object(as_object(usage).get("prompt_tokens_details")).get("cache_write_tokens"))
    return {
        "input_tokens": counts.input_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens, "cache_write_tokens": written},
        "output_tokens": counts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.total_tokens,
    }


def kept_reasoning(message: JsonObject, calls: list[JsonObject]) -> JsonObject:
    """What the provider wants back at the next turn: signed thinking and the like, of the message and of its calls."""
    rest = {key: value for key, value in message.items() if key not in _SHOWN and value}
    of_calls = {
        str(call.get("id")): extra
        for call in calls
        if (extra := {key: value for key, value in call.items() if key not in _CALL_SHOWN and value})
    }
    return {**({"message": rest} if rest else {}), **({"calls": of_calls} if of_calls else {})}


def reasoning_item(asked: Asked, number: int, text: str, kept: JsonObject) -> JsonObject:
    """A reasoning item; `kept` is sealed into it where there is anything."""
    item: JsonObject = {"id": item_id("rs", asked.request_id, number), "type": "reasoning", "summary": []}
    if text and asked.summarized:
        item["summary"] = [{"type": "summary_text", "text": text}]
    elif text:
        item["content"] = [{"type": "reasoning_text", "text": text}]
    return {**item, "encrypted_content": asked.seal(kept)} if kept else item


def message_item(asked: Asked, number: int, parts: list[JsonObject], status: str) -> JsonObject:
    """A message of the model."""
    name = item_id("msg", asked.request_id, number)
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": parts}


def text_part(text: str, logprobs: Any = None, annotations: Any = None) -> JsonObject:
    """A text of the model; annotations are those of chat completions."""
    cited = [as_object(each.get("url_citation")) for each in as_objects(annotations)]
    return {
        "type": "output_text",
        "annotations": [
            {"type": "url_citation", **{name: each[name] for name in _ANNOTATION}}
            for each in cited
            if all(name in each for name in _ANNOTATION)
        ],
        "logprobs": logprobs_of(logprobs),
        "text": text,
    }


def logprobs_of(tokens: Any) -> list[JsonObject]:
    """Log probabilities as they are shown here: bytes are a list always."""
    return [
        {
            **_token(token),
            "top_logprobs": [_token(other) for other in as_objects(token.get("top_logprobs"))],
        }
        for token in as_objects(tokens)
    ]


def _token(token: JsonObject) -> JsonObject:
    return {"token": token.get("token"), "bytes": token.get("bytes") or [], "logprob": token.get("logprob")}


def call_id_of(call: JsonObject, asked: Asked, number: int) -> str:
    """The id by which the call's result comes back; some servers give none."""
    return str(call.get("id") or item_id("call", asked.request_id, number))


def call_item(asked: Asked, number: int, call_id: str, function: JsonObject, status: str) -> JsonObject:
    """A call in the client's own words: of a function, a custom tool, the local shell or a search for tools."""
    name, arguments = str(function.get("name") or ""), str(function.get("arguments") or "")
    tool = asked.tools.by_name.get(name) or ClientTool("function", name)
    called: JsonObject = {"call_id": call_id, "name": tool.name}
    if tool.namespace is not None:
        called["namespace"] = tool.namespace
    match tool.kind:
        case "custom":
            own = {"type": "custom_tool_call", "status": status, **called, "input": custom_input(arguments)}
        case "local_shell":
            own = {"type": "local_shell_call", "status": status, "call_id": call_id, "action": _action(arguments)}
        case "tool_search":
            wanted = object_of(arguments, "query")
            own = {"type": "tool_search_call", "status": status, "call_id": call_id, "execution": "client"}
            own["arguments"] = wanted
        case _:
            # Some servers write nothing where a function takes nothing; clients parse it all the same.
            own = {"type": "function_call", "status": status, **called, "arguments": arguments or _EMPTY[status]}
    return {"id": item_id(_CALL_PREFIXES[tool.kind], asked.request_id, number), **own}


_EMPTY = {"completed": "{}", "incomplete": "", "in_progress": ""}
_CALL_PREFIXES = {"function": "fc", "custom": "ctc", "local_shell": "lsh", "tool_search": "tsc"}


def _action(arguments: str) -> JsonObject:
    wanted = object_of(arguments, "command")
    command = wanted.get("command")
    if not isinstance(command, list):
        command = ["bash", "-lc", command if isinstance(command, str) else dump(command).decode()]
    return {**wanted, "type": "exec", "command": command, "env": as_object(wanted.get("env"))}
