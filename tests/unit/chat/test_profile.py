"""What one request asks for, read once."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelpilot.chat.body import ChatBody, RequestOptions
from modelpilot.chat.profile import classify_request, profile_request, with_metadata
from modelpilot.chat.text import has_images, prompt_text
from tests.support.routing_samples import chat_body, profile


def kind_of(messages: Sequence[dict[str, Any]], has_tools: bool) -> str:
    """The type of a request with these messages."""
    return classify_request(prompt_text(messages), has_tools=has_tools, has_images=has_images(messages))


def test_a_plain_request() -> None:
    """Text, type, size and defaults of the simplest body."""
    plain = profile("Simple question")
    assert (plain.text, plain.request_type, plain.stream, plain.max_output_tokens) == (
        "Simple question",
        "chat",
        False,
        None,
    )
    assert plain.prompt_tokens == 2 + 4 + 3  # two words, the message, the beginning of the answer
    assert plain.capabilities == {"chat"}
    assert plain.options == RequestOptions()


def test_our_own_object_is_stripped_and_the_body_left_alone() -> None:
    """The provider gets what the client sent without `modelpilot`; the client's object is not changed."""
    body = chat_body(modelpilot={"tags": {"team": "a"}}, top_k=3, model="router/support")
    read = profile_request(body, ChatBody.model_validate_json(json.dumps(body)))
    assert read.body == {"messages": body["messages"], "top_k": 3, "model": "router/support"}
    assert read.options.tags == {"team": "a"}
    assert "modelpilot" in body


@pytest.mark.parametrize(
    "tags",
    [{"k" * 65: "v"}, {"": "v"}, {"k": "v" * 513}, {str(number): "v" for number in range(33)}, {"k": 1}],
)
def test_tags_are_bounded(tags: dict[str, Any]) -> None:
    """They travel through every store beside the body, so their size is limited like the body's."""
    with pytest.raises(ValidationError):
        ChatBody.model_validate(chat_body(modelpilot={"tags": tags}))
    largest = {f"{number:064}": "v" * 256 for number in range(32)}
    ChatBody.model_validate(chat_body(modelpilot={"tags": largest}))


def test_the_newer_name_of_the_output_limit_wins() -> None:
    """`max_completion_tokens` replaced `max_tokens`."""
    assert profile(max_tokens=5).max_output_tokens == 5
    assert profile(max_tokens=5, max_completion_tokens=7).max_output_tokens == 7


def test_tools_are_counted_and_classified() -> None:
    """Their JSON is part of the prompt's size, and they make a tool request."""
    tools = [{"type": "function", "function": {"name": "f", "description": "word " * 100}}]
    with_tools = profile(tools=tools)
    assert with_tools.request_type == "tool_use"
    assert with_tools.prompt_tokens > 100 + profile().prompt_tokens


def test_values_that_orjson_refuses_are_read_too() -> None:
    """Lone surrogates and huge integers in tools pass through."""
    tools = [{"type": "function", "function": {"name": "f", "big": 10**40, "text": "\ud800"}}]
    assert profile(tools=tools).prompt_tokens > 0


def test_streaming_is_what_the_body_says() -> None:
    """`stream: null` is no stream."""
    assert profile(stream=True).stream
    assert not profile(stream=None).stream


# The type of a request.

KINDS = {
    "tool_use", "vision", "code", "translation", "summarization", "extraction", "math", "creative", "classification",
    "chat",
}  # fmt: skip


def user(content: Any) -> list[dict[str, Any]]:
    """One user message."""
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Hello, how are you?", "chat"),
        ("", "chat"),
        ("Simple question", "chat"),
        ("Fix this bug in my python script", "code"),
        ("```\nx = 1\n```", "code"),
        ("SELECT * FROM users;", "code"),
        ("Translate 'good morning' into German", "translation"),
        ("Übersetze das bitte", "translation"),
        ("Summarize the following article", "summarization"),
        ("TL;DR please", "summarization"),
        ("Extract all dates from this text", "extraction"),
        ("What is 12 * 7?", "math"),
        ("Solve the equation", "math"),
        ("Write me a short poem about rain", "creative"),
        ("Classify the sentiment of this review", "classification"),
        ("Explain this: " + "lorem ipsum " * 2_000 + " and then translate it", "translation"),
    ],
)
def test_kinds_of_prompts(text: str, kind: str) -> None:
    """The documented rules, the first match wins, start and end of a long prompt are read."""
    assert kind_of(user(text), has_tools=False) == kind


def test_tools_and_images_go_first() -> None:
    """What a request carries says more than its words."""
    image = [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "translate the sign"}]
    assert kind_of(user(image), has_tools=False) == "vision"
    assert kind_of(user(image), has_tools=True) == "tool_use"


@pytest.mark.parametrize("content", ["translate this", [{"type": "text", "text": "a"}, {"type": "image_url"}]])
@pytest.mark.parametrize("tools", [None, [{"type": "function"}]])
def test_a_profile_has_the_type_that_its_messages_have(content: Any, tools: Any) -> None:
    """Reading everything in one pass comes to the same as asking one question after the other."""
    body = chat_body(content, tools=tools)
    read = profile_request(body, ChatBody.model_validate(body))
    assert read.request_type == kind_of(body["messages"], has_tools=bool(tools))
    assert ("vision" in read.capabilities) == isinstance(content, list)


@given(st.text(max_size=400), st.booleans())
def test_every_prompt_has_one_known_kind(text: str, has_tools: bool) -> None:
    """No text falls through."""
    assert kind_of(user(text), has_tools) in KINDS


@pytest.mark.parametrize("piece", ["write ", "write a ", "def ", "in one ", "1 ", "(", "\n", "sum of ", "write a a"])
def test_no_prompt_makes_the_rules_explode(piece: str) -> None:
    """Repeated openings of each rule over a megabyte end well before the test's timeout (4,000 characters are read)."""
    assert kind_of(user(piece * (1_000_000 // len(piece))), has_tools=False) in KINDS


def test_metadata_and_user_say_who_spends() -> None:
    """OpenAI's `metadata` is read as tags, behind the request's own; what is no text becomes JSON."""
    metadata = {"team": "b", "run": 7, "tags": ["x"], "k" * 65: "lost", "long": "v" * 600}
    body = chat_body(metadata=metadata, user="u-1", modelpilot={"tags": {"team": "a"}})
    read = profile_request(body, ChatBody.model_validate(body))
    assert {**read.tags, "long": ""} == {"team": "a", "run": "7", "tags": '["x"]', "long": ""}
    assert (len(read.tags["long"]), read.end_user) == (512, "u-1")


@pytest.mark.parametrize(
    ("options", "metadata", "tags"),
    [
        (None, {"team": "b", "run": 7}, {"team": "b", "run": "7"}),
        ({"tags": {"team": "a"}, "sessionId": "s"}, {"team": "b", "x": "y"}, {"team": "a", "x": "y"}),
        ({"sessionId": "s"}, {"x": "y"}, {"x": "y"}),
    ],
)
def test_metadata_of_other_formats_becomes_tags(options: Any, metadata: Any, tags: dict[str, str]) -> None:
    """Behind the request's own, which keep their names and whatever else is said."""
    body = chat_body(**({} if options is None else {"modelpilot": options}))
    made = with_metadata(body, metadata)
    assert made["modelpilot"] == {**(options or {}), "tags": tags}
    assert {name: made[name] for name in made if name != "modelpilot"} == chat_body()


@pytest.mark.parametrize("options", ["text", {"tags": "text"}, {"tags": {str(number): "v" for number in range(33)}}])
def test_wrong_tags_stay_wrong(options: Any) -> None:
    """Metadata does not hide from the check what it has to refuse."""
    body = chat_body(modelpilot=options)
    assert with_metadata(body, {"x": "y"}) == body
    assert with_metadata(chat_body(), None) == with_metadata(chat_body(), {}) == chat_body()


@pytest.mark.parametrize("metadata", [None, [], "text", {str(number): "v" for number in range(100)}])
def test_any_metadata_is_bounded(metadata: Any) -> None:
    """It is the provider's to refuse, and never grows our rows without end."""
    body = chat_body(metadata=metadata, user=["no name"])
    read = profile_request(body, ChatBody.model_validate(body))
    assert (len(read.tags) <= 32, read.end_user) == (True, None)


def test_what_only_the_gateway_reads_goes_no_further() -> None:
    """Providers would refuse it, or take it for something else."""
    body = chat_body(models=["a"], route="fallback", fallbacks=["b"], provider={"order": ["x"]})
    assert profile_request(body, ChatBody.model_validate(body)).body.keys() == {"messages", "provider"}
