"""Bodies fitted to manners: one rule per field; meaning is never dropped, and what happens to hints is said."""

import copy
from typing import Any

import pytest
from openai.types.chat import completion_create_params as openai_body

from modelpilot.providers.fields import FIELDS, Change
from modelpilot.providers.fitting import AnswerLimits, asks_whole, dishonours, fit, learnt_from_refusal
from modelpilot.providers.kinds import KINDS, ProviderKind
from modelpilot.providers.manners import Manners, manners_of
from tests.support.routing_samples import spec

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def answer_schema(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A response format of this schema."""
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


def fitted(kind: ProviderKind, model: str, body: dict[str, Any], most: int | None = None, service: str = "") -> Any:
    """The body for a model, and the changes as (field, action); the body that came in is not touched."""
    whole = {"messages": [USER], **body}
    before = copy.deepcopy(whole)
    found = fit(whole, kind, manners_of(kind, service, model), AnswerLimits(most, most))
    assert whole == before
    left = {name: value for name, value in found.body.items() if name != "messages"}
    return left, [(change.field, change.action) for change in found.changes]


@pytest.mark.parametrize(
    ("model", "body", "sent", "changes"),
    [
        ("gpt-5-mini", {"temperature": 0}, {}, [("temperature", "dropped")]),
        ("gpt-5-mini", {"temperature": 1, "top_p": 1}, {}, []),
        ("gpt-5-mini", {"max_tokens": 40}, {"max_completion_tokens": 40}, []),
        ("gpt-5-mini", {"logprobs": True}, {}, [("logprobs", "excluded")]),
        ("gpt-5-mini", {"stop": ["x"]}, {"stop": ["x"]}, [("stop", "excluded")]),
        ("gpt-5-mini", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, [("reasoning_effort", "clamped")]),
        (
            "gpt-5-mini",
            {"reasoning_effort": "none"},
            {"reasoning_effort": "minimal"},
            [("reasoning_effort", "clamped")],
        ),
        ("gpt-5.1", {"temperature": 0.2}, {"temperature": 0.2}, []),
        (
            "gpt-5.1",
            {"temperature": 0.2, "reasoning_effort": "low"},
            {"reasoning_effort": "low"},
            [("temperature", "dropped")],
        ),
        ("gpt-4o", {"reasoning_effort": "low"}, {}, [("reasoning_effort", "dropped")]),
        ("gpt-4o", {"reasoning_effort": "none"}, {}, []),
        ("o3", {"parallel_tool_calls": True, "tools": [TOOL]}, {"tools": [TOOL]}, []),
        ("llama", {"max_completion_tokens": 5}, {"max_tokens": 5}, []),
        ("llama", {"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 5}, []),
        ("llama", {"max_tokens": 99}, {"max_tokens": 50}, [("max_tokens", "clamped")]),
        (
            "llama",
            {"x_new": {"a": None}, "top_k": 3, "seed": None},
            {"x_new": {"a": None}, "top_k": 3, "seed": None},
            [],
        ),
        ("llama", {"temperature": 2.0, "top_p": 0.5}, {"temperature": 2.0, "top_p": 0.5}, []),
        ("llama", {"tool_choice": "auto", "parallel_tool_calls": False}, {}, []),
        ("llama", {"stop": ""}, {}, []),
        ("llama", {"stop": ["", "x"]}, {"stop": ["x"]}, []),
    ],
)
def test_openai_format(model: str, body: dict[str, Any], sent: dict[str, Any], changes: list[tuple[str, str]]) -> None:
    """Names and values that a family of models knows, also on a server of one's own; unknown fields pass."""
    assert fitted("openai", model, body, most=50) == (sent, changes)


@pytest.mark.parametrize(
    ("body", "sent", "changes"),
    [
        ({"top_k": 5, "min_p": 0.1}, {}, [("top_k", "dropped"), ("min_p", "dropped")]),
        ({"max_completion_tokens": 5}, {"max_completion_tokens": 5}, []),
        ({"reasoning": {"effort": "low"}}, {}, [("reasoning", "dropped")]),
        ({"stop": list("abcde")}, {"stop": list("abcde")}, [("stop", "excluded")]),
        ({"n": 128}, {"n": 128}, []),
        (
            {"response_format": answer_schema(PERSON, strict=True)},
            {"response_format": answer_schema({**PERSON, "additionalProperties": False}, strict=True)},
            [("response_format", "translated")],
        ),
        (
            {"response_format": answer_schema({**PERSON, "required": []}, strict=True)},
            {"response_format": answer_schema({**PERSON, "required": []}, strict=False)},
            [("response_format", "translated")],
        ),
        ({"response_format": answer_schema(PERSON)}, {"response_format": answer_schema(PERSON)}, []),
    ],
)
def test_openai_itself(body: dict[str, Any], sent: dict[str, Any], changes: list[tuple[str, str]]) -> None:
    """It refuses what it does not know, and schemas that are not strict where strictness was asked for."""
    assert fitted("openai", "gpt-4o", body, service="openai") == (sent, changes)


@pytest.mark.parametrize(
    ("body", "sent", "changes"),
    [
        ({"seed": 3, "user": "u"}, {"random_seed": 3}, [("user", "dropped")]),
        ({"logprobs": True}, {}, [("logprobs", "excluded")]),
        ({"max_completion_tokens": 5, "service_tier": "auto"}, {"max_tokens": 5}, []),
    ],
)
def test_mistral(body: dict[str, Any], sent: dict[str, Any], changes: list[tuple[str, str]]) -> None:
    """It refuses unknown fields, and has another name for the seed."""
    assert fitted("openai", "mistral-large", body, service="mistral") == (sent, changes)


THINKING = {"type": "enabled", "budget_tokens": 5_000}


@pytest.mark.parametrize(
    ("model", "body", "sent", "changes"),
    [
        ("m", {}, {"max_tokens": 64_000}, []),
        ("m", {"max_completion_tokens": 9}, {"max_tokens": 9}, []),
        ("m", {"max_tokens": 99_000}, {"max_tokens": 64_000}, [("max_tokens", "clamped")]),
        ("m", {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}, [("top_p", "dropped")]),
        ("m", {"top_p": 0.9, "temperature": 0.2}, {"temperature": 0.2}, [("top_p", "dropped")]),
        ("m", {"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}, []),
        ("claude-3-5-haiku", {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9}, []),
        ("m", {"temperature": 1.5}, {"temperature": 1.0}, [("temperature", "clamped")]),
        ("claude-opus-4-7", {"temperature": 0.5, "top_k": 4}, {}, [("temperature", "dropped"), ("top_k", "dropped")]),
        (
            "m",
            {"temperature": 0.5, "reasoning_effort": "low"},
            {"reasoning_effort": "low"},
            [("temperature", "dropped")],
        ),
        ("m", {"seed": 1, "logit_bias": {"1": 2}}, {}, [("seed", "dropped"), ("logit_bias", "dropped")]),
        ("m", {"presence_penalty": 0, "frequency_penalty": 0.5}, {}, [("frequency_penalty", "dropped")]),
        ("m", {"n": 1, "logprobs": False, "store": False, "service_tier": "auto"}, {"n": 1}, []),
        ("m", {"n": 2}, {"n": 2}, [("n", "excluded")]),
        ("m", {"x_new": 1}, {}, [("x_new", "excluded")]),
        ("m", {"logprobs": True, "top_logprobs": 2}, {}, [("logprobs", "excluded"), ("top_logprobs", "excluded")]),
        ("m", {"stop": ["\n"]}, {"stop": ["\n"]}, [("stop", "excluded")]),
        ("m", {"stop": ["", "x"]}, {"stop": ["x"]}, []),
        (
            "m",
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_object"}},
            [("response_format", "excluded")],
        ),
        (
            "claude-3-7-sonnet",
            {"response_format": answer_schema(PERSON)},
            {"response_format": answer_schema(PERSON)},
            [("response_format", "excluded")],
        ),
        (
            "m",
            {"response_format": answer_schema(PERSON)},
            {"response_format": answer_schema({**PERSON, "additionalProperties": False})},
            [("response_format", "translated")],
        ),
        (
            "m",
            {"response_format": answer_schema({"type": "object"})},
            {"response_format": answer_schema({"type": "object"})},
            [("response_format", "excluded")],
        ),
        ("claude-3-5-haiku", {"reasoning_effort": "low"}, {}, [("reasoning_effort", "dropped")]),
        ("m", {"reasoning_effort": "low", "max_tokens": 900}, {"max_tokens": 900}, [("reasoning_effort", "dropped")]),
        (
            "m",
            {"reasoning_effort": "low", "tools": [TOOL], "tool_choice": "required"},
            {"tools": [TOOL], "tool_choice": "required"},
            [("reasoning_effort", "dropped")],
        ),
        (
            "claude-opus-4-6",
            {"reasoning_effort": "minimal"},
            {"reasoning_effort": "low"},
            [("reasoning_effort", "clamped")],
        ),
        ("m", {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low"}}, []),
        ("claude-opus-4-7", {"thinking": THINKING}, {"thinking": {"type": "adaptive"}}, [("thinking", "translated")]),
        (
            "m",
            {"thinking": THINKING, "max_tokens": 3_000},
            {"thinking": {**THINKING, "budget_tokens": 2_999}, "max_tokens": 3_000},
            [("thinking", "clamped")],
        ),
        (
            "claude-sonnet-4-5",
            {"thinking": {"type": "adaptive"}},
            {"reasoning_effort": "high"},
            [("thinking", "translated")],
        ),
        ("claude-3-5-haiku", {"thinking": THINKING}, {}, [("thinking", "dropped")]),
    ],
)
def test_claude(model: str, body: dict[str, Any], sent: dict[str, Any], changes: list[tuple[str, str]]) -> None:
    """The model's own limit where the client gives none; one of two sampling parameters; nothing beside reasoning."""
    assert fitted("anthropic", model, body, most=64_000) == ({"max_tokens": 64_000, **sent}, changes)


@pytest.mark.parametrize(
    ("model", "body", "sent", "changes"),
    [
        ("gemini-2.5-flash", {"n": 8, "seed": 1}, {"n": 8, "seed": 1}, []),
        ("gemini-2.5-flash", {"n": 9}, {"n": 9}, [("n", "excluded")]),
        ("gemini-2.5-flash", {"presence_penalty": 1}, {}, [("presence_penalty", "dropped")]),
        ("gemini-2.0-flash", {"presence_penalty": 1}, {"presence_penalty": 1}, []),
        ("m", {"logit_bias": {"1": 1}, "user": "u"}, {}, [("logit_bias", "dropped"), ("user", "dropped")]),
        (
            "m",
            {"parallel_tool_calls": False, "tools": [TOOL]},
            {"tools": [TOOL]},
            [("parallel_tool_calls", "dropped")],
        ),
        ("m", {"stop": list("abcdef")}, {"stop": list("abcdef")}, [("stop", "excluded")]),
        (
            "gemini-2.5-pro",
            {"tools": [TOOL], "response_format": {"type": "json_object"}},
            {"tools": [TOOL], "response_format": {"type": "json_object"}},
            [("response_format", "excluded")],
        ),
        (
            "gemini-3-flash",
            {"tools": [TOOL], "response_format": {"type": "json_object"}},
            {"tools": [TOOL], "response_format": {"type": "json_object"}},
            [],
        ),
        (
            "gemini-2.5-pro",
            {"reasoning_effort": "none"},
            {"reasoning_effort": "minimal"},
            [("reasoning_effort", "clamped")],
        ),
        (
            "gemini-3-pro-preview",
            {"reasoning_effort": "max"},
            {"reasoning_effort": "high"},
            [("reasoning_effort", "clamped")],
        ),
        ("gemini-2.0-flash", {"reasoning_effort": "low"}, {}, [("reasoning_effort", "dropped")]),
    ],
)
def test_gemini(model: str, body: dict[str, Any], sent: dict[str, Any], changes: list[tuple[str, str]]) -> None:
    """Which fields the format has, which the model; tools and JSON exclude each other before Gemini 3."""
    assert fitted("google", model, body) == (sent, changes)


OPENAI_FIELDS = sorted(
    {
        *openai_body.CompletionCreateParamsBase.__annotations__,
        *openai_body.CompletionCreateParamsStreaming.__annotations__,
    }
)


@pytest.mark.parametrize("name", OPENAI_FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_openai_has_a_rule(name: str, kind: ProviderKind) -> None:
    """It reaches a provider of every kind, or is left out and said, or keeps the model from being asked."""
    assert name in FIELDS, f"{name} has no rule in modelpilot/providers/fields.py"
    value = {"messages": [USER], "stream": True}.get(name, "something")
    body = {"messages": [USER], name: value}
    found = fit(body, kind, manners_of(kind, "", "m"))
    nature, actions = FIELDS[name].nature, [change.action for change in found.changes]
    dropped = name not in found.body and name not in ("max_completion_tokens", "tool_choice", "parallel_tool_calls")
    if nature == "meaning":
        assert not dropped or actions == ["excluded"]
    elif nature == "hint":
        assert not dropped or actions == ["dropped"]
    else:
        assert actions == []


# What is checked before a body comes here.
CHECKED = {"messages", "tools", "response_format", "n", "max_tokens", "max_completion_tokens", "temperature"}
ODD = [5, -1, 0.5, True, "x", "", [], [1], [None], {}, {"type": 1}, {"type": "enabled", "budget_tokens": "x"}, None]


@pytest.mark.parametrize("name", sorted({*FIELDS, "x_new", "output_config"} - CHECKED))
def test_odd_values_are_left_to_the_provider(name: str) -> None:
    """Who sends nonsense hears what the provider says of it, not of a defect of ours."""
    for kind, model in (("openai", "gpt-5.4"), ("openai", "m"), ("anthropic", "m"), ("google", "gemini-2.5-pro")):
        for value in ODD:
            body = {"messages": [USER], "tools": [TOOL], "temperature": 0.5, "max_tokens": 9, name: value}
            manners = manners_of(kind, "openai", model)
            found = fit(body, kind, manners, AnswerLimits(5, 5))  # type: ignore[arg-type]
            asks_whole(found.body, manners, streamed=False)


def test_meaning_excludes_and_strict_routers_exclude_for_hints() -> None:
    """A hint keeps nobody from being asked, unless the router says so; an unknown kind takes everything."""
    hints, meaning = {"messages": [USER], "seed": 1, "temperature": 2}, {"messages": [USER], "n": 2, "audio": {}}
    claude = manners_of("anthropic", "", "m")
    assert dishonours(hints)("anthropic", claude) is None
    assert dishonours(hints, strict=True)("anthropic", claude) == (
        "its provider (anthropic) cannot honour seed, temperature"
    )
    assert dishonours(meaning)("anthropic", claude) == "its provider (anthropic) cannot honour n (at most 1), audio"
    assert dishonours(meaning)(None, Manners()) is None
    assert dishonours({"messages": [USER], "max_tokens": 10**6}, strict=True)("anthropic", claude) is None


def test_what_messages_hold_counts_as_well() -> None:
    """A file by its OpenAI id has no place elsewhere; a participant's name is a hint."""
    by_id = {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}
    named = {"messages": [{**USER, "name": "Ann"}]}
    why_not, claude = dishonours(by_id), manners_of("anthropic", "", "m")
    assert why_not("anthropic", claude) == "its provider (anthropic) cannot honour messages[0].content"
    assert why_not("openai", manners_of("openai", "", "m")) is None
    found = fit(named, "anthropic", claude)
    assert found.body["messages"] == [USER]
    assert found.changes == (Change("messages[].name", "dropped", "this model does not take it"),)
    assert fit(named, "openai", manners_of("openai", "", "m")).body is named


def test_lists_of_texts_are_joined_where_a_server_wants_text() -> None:
    """Nothing is lost; a picture keeps the model from being asked."""
    plain = Manners(content_arrays=False)
    text = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    manners = manners_of("openai", "", "m", plain)
    found = fit({"messages": [{"role": "system", "content": text}, USER]}, "openai", manners)
    assert (found.body["messages"], found.changes) == ([{"role": "system", "content": "a\nb"}, USER], ())
    picture = {"type": "image_url", "image_url": {"url": "https://h/a.png"}}
    found = fit({"messages": [USER, {"role": "user", "content": [*text, picture]}]}, "openai", manners)
    assert found.excluded == ["messages[1].content (text alone)"]


@pytest.mark.parametrize(
    ("limits", "parameters", "prompt", "most", "unasked"),
    [
        ({}, None, 10, None, None),
        ({"max_tokens": 100}, None, 10, 100, 100),
        ({"max_tokens": 100}, {"max_tokens": 50}, 10, 50, 50),
        ({"max_tokens": 100}, {"default_max_tokens": 30}, 10, 100, 30),
        ({"max_tokens": 100, "context_window": 150}, None, 80, 70, 50),
        ({"context_window": 150}, None, 80, 70, None),
    ],
)
def test_limits_of_an_answer(
    limits: dict[str, int], parameters: dict[str, int] | None, prompt: int, most: int | None, unasked: int | None
) -> None:
    """The catalogue's limit, the owner's above it, and never more than the window has room for."""
    model = spec("m", limits=limits, parameters=parameters)
    manners = manners_of("anthropic", "", "m", model.parameters)
    assert AnswerLimits.of(model, manners, prompt) == AnswerLimits(most, unasked)


@pytest.mark.parametrize(
    ("body", "said", "streamed", "whole"),
    [
        ({}, {}, False, False),
        ({}, {"streams": False}, True, True),
        ({}, {"stream_options": False}, False, True),
        ({}, {"stream_options": False}, True, False),
        ({}, {"stream_options": False, "usage_unasked": True}, False, False),
        ({"modalities": ["text", "audio"], "audio": {"format": "wav"}}, {}, True, True),
        ({"modalities": ["text", "audio"], "audio": {"format": "pcm16"}}, {}, False, False),
    ],
)
def test_when_whole_answers_are_asked_for(
    body: dict[str, Any], said: dict[str, Any], streamed: bool, whole: bool
) -> None:
    """Where a stream is not to be had, or would not tell its usage to anybody."""
    assert asks_whole(body, manners_of("openai", "", "m", Manners(**said)), streamed=streamed) is whole


@pytest.mark.parametrize(
    ("message", "sent", "whole", "learnt"),
    [
        ("unknown field: stream_options", {}, False, Manners(stream_options=False)),
        ("unknown field: stream_options", {}, True, None),
        ("max_completion_tokens is unknown", {"max_completion_tokens": 5}, False, Manners(limit_name="max_tokens")),
        (
            "'max_tokens' is not supported, use 'max_completion_tokens'",
            {"max_tokens": 5},
            False,
            Manners(limit_name="max_completion_tokens"),
        ),
        ("max_tokens is too large", {"max_tokens": 5}, False, None),
        ("Your organization must be verified to stream this model.", {}, False, Manners(streams=False)),
        ("Your organization must be verified to stream this model.", {}, True, None),
        ("the upstream is broken", {}, False, None),
        ("temperature is not supported", {"temperature": 0}, False, None),
        (
            "messages.0.content: Input should be a valid string",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            False,
            Manners(content_arrays=False),
        ),
        ("messages.0.content: Input should be a valid string", {"messages": [USER]}, False, None),
    ],
)
def test_a_refusal_of_our_own_additions_teaches(
    message: str, sent: dict[str, Any], whole: bool, learnt: Manners | None
) -> None:
    """What we added or can say otherwise is tried without; the client's own words are the client's business."""
    assert learnt_from_refusal(message, sent, manners_of("openai", "", "m"), whole=whole) == learnt
