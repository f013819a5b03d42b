"""The type of a request."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat.profile import classify_request, surface_features

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
    assert classify_request(user(text), has_tools=False) == kind


def test_tools_and_images_go_first() -> None:
    """What a request carries says more than its words."""
    image = [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "translate the sign"}]
    assert classify_request(user(image), has_tools=False) == "vision"
    assert classify_request(user(image), has_tools=True) == "tool_use"


@given(st.text(max_size=400), st.booleans())
def test_every_prompt_has_one_known_kind(text: str, has_tools: bool) -> None:
    """No text falls through, and features are finite shares and counts."""
    assert classify_request(user(text), has_tools) in KINDS
    features = surface_features(user(text))
    assert all(value >= 0.0 for value in features.values())
    assert features["digitShare"] <= 1.0
    assert features["upperShare"] <= 1.0


@pytest.mark.parametrize("piece", ["write ", "write a ", "def ", "in one ", "1 ", "(", "\n", "sum of ", "write a a"])
def test_no_prompt_makes_the_rules_explode(piece: str) -> None:
    """Repeated openings of each rule over a megabyte end well before the test's timeout (4,000 characters are read)."""
    assert classify_request(user(piece * (1_000_000 // len(piece))), has_tools=False) in KINDS


def test_features_of_a_known_prompt() -> None:
    """The numbers that estimators will need when the text is gone."""
    messages = [{"role": "system", "content": "brief"}, *user("Is f(2) = 4?\nYES")]
    features = surface_features(messages)
    assert features["characters"] == 16
    assert (features["lines"], features["brackets"], features["questionMarks"]) == (2, 2, 1)
    assert features["digitShare"] == pytest.approx(2 / 16)
    assert (features["messages"], features["systemCharacters"]) == (2, 5)
