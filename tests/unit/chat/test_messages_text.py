"""Reading a message list."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat.size import PromptSize
from modelpilot.chat.text import (
    FOLDED_CHARACTERS,
    content_text,
    has_images,
    normalized_prompt,
    prompt_text,
    required_capabilities,
)

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
LONG = "x" * 100


def user(content: Any) -> dict[str, Any]:
    """A user message."""
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "one"}, IMAGE, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "input_text", "text": "one"}], "one"),
        ([{"type": "text"}, {"type": "text", "text": 7}, "loose", {"type": "audio", "text": "no"}], ""),
    ],
)
def test_text_of_contents(content: Any, text: str) -> None:
    """Strings as they are, the text parts of lists, nothing for anything else."""
    assert content_text(content) == text


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([user(LONG)], LONG),
        ([{"role": "system", "content": "be brief"}, user("hi")], "hi"),
        (
            [user("Explain monads"), {"role": "assistant", "content": "…"}, user("in French?")],
            "Explain monads\nin French?",
        ),
        ([user("Explain monads"), user(LONG)], LONG),
        ([{"role": "system", "content": "only me"}], "only me"),
        ([user(None)], ""),
        ([], ""),
        ([user("first"), user("")], "first\n"),
        ([{"role": "system", "content": "one"}, {"role": "system", "content": "two"}], "one\ntwo"),
    ],
)
def test_the_prompt_is_the_last_user_message_with_its_context(messages: list[dict[str, Any]], text: str) -> None:
    """Short follow-ups need the message before; system messages would drown the rest."""
    assert prompt_text(messages) == text


@pytest.mark.parametrize("variant", ["What is  2+2? ", "what is 2+2?", "WHAT\tIS\n2+2?", "\u2003What is 2+2?"])
def test_the_same_prompt_normalizes_to_the_same(variant: str) -> None:
    """Case and white space do not make another prompt."""
    assert normalized_prompt(variant) == "what is 2+2?"


@given(st.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    """The id of a history point is stable."""
    once = normalized_prompt(text)
    assert normalized_prompt(once) == once
    assert "  " not in once


@given(st.text(st.characters(codec=None) | st.sampled_from(" \t\n\x0b\x0c\r\x1c\x1f\x85\xa0\u2028\u3000\ufeffßİ")))
def test_the_folded_text_stays_what_stored_points_are_named_by(text: str) -> None:
    """The definition of the first day; folding is only quicker today."""
    assert normalized_prompt(text) == re.sub(r"\s+", " ", text).strip().casefold()


def test_a_giant_prompt_is_its_own_digest() -> None:
    """Equal for the same text only, in a few bytes, and never what a folded text can be."""
    giant = "Lorem \ud800" * FOLDED_CHARACTERS
    digest = normalized_prompt(giant)
    assert digest == normalized_prompt(giant[:-1] + giant[-1])
    assert digest != normalized_prompt(giant.lower())
    assert len(digest) < 80
    assert normalized_prompt(digest) != digest
    assert normalized_prompt("A" * FOLDED_CHARACTERS) == "a" * FOLDED_CHARACTERS


def test_images_are_found() -> None:
    """An image part is an image wherever it stands."""
    messages = [user("look"), user([{"type": "text", "text": "abcd"}, IMAGE, IMAGE])]
    assert has_images(messages)
    assert not has_images([user("image_url")])


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, {"chat"}),
        ({"tools": []}, {"chat"}),
        ({"tools": [{"type": "function"}]}, {"chat", "functions"}),
        ({"response_format": {"type": "text"}}, {"chat"}),
        ({"response_format": None}, {"chat"}),
        ({"response_format": {"type": "json_schema"}}, {"chat", "json"}),
        ({"messages": [user([IMAGE])]}, {"chat", "vision"}),
    ],
)
def test_capabilities_follow_from_the_body(fields: dict[str, Any], needed: set[str]) -> None:
    """Tools need functions, images vision, structured output json."""
    assert required_capabilities({"messages": [user("x")], **fields}) == needed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "tool"]), "content": JSON}), max_size=4)
)
def test_no_content_breaks_the_reading(messages: list[dict[str, Any]]) -> None:
    """Whatever a client puts into a content, there is a text and a token count."""
    assert isinstance(prompt_text(messages), str)
    assert PromptSize.of({"messages": messages}).tokens >= 0
    assert isinstance(has_images(messages), bool)
