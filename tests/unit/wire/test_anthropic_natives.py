"""What coding agents send in Anthropic's format that only Anthropic knows."""

from typing import Any

import pytest

from modelpilot.providers.fitting import dishonours, fit
from modelpilot.providers.kinds import KINDS
from modelpilot.providers.manners import manners_of
from modelpilot.wire.anthropic_front import chat_request_of
from modelpilot.wire.support import NATIVE
from tests.support.anthropic_bodies import body, user


def sent(kind: Any, model: str, fields: dict[str, Any], betas: str = "") -> tuple[dict[str, Any], list[str]]:
    """What a provider gets of a Messages request, and which fields were left out."""
    manners = manners_of(kind, "", model)
    fitted = fit(chat_request_of(body(**fields), betas), kind, manners)
    assert not fitted.excluded
    return KINDS[kind].wire.chat_request(fitted.body, model, False, manners), [each.field for each in fitted.changes]


SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
AGENTS: dict[str, Any] = {
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "low", "task_budget": 9},
    "tools": [{"name": "f", "input_schema": SCHEMA, "defer_loading": True, "input_examples": [{}]}],
}


def test_what_only_anthropic_knows_reaches_it_as_it_came() -> None:
    """Coding agents send fields, and properties of tools, that are newer than any translation."""
    request, left_out = sent("anthropic", "claude-opus-4-6", AGENTS)
    assert request["context_management"] == AGENTS["context_management"]
    assert request["output_config"] == AGENTS["output_config"]
    assert request["tools"] == AGENTS["tools"]
    assert (NATIVE in request, left_out) == (False, [])


@pytest.mark.parametrize(("kind", "model"), [("openai", "gpt-5"), ("openai", "m"), ("google", "gemini-2.5-pro")])
def test_others_are_sent_none_of_it_and_the_answer_says_so(kind: Any, model: str) -> None:
    """Their servers would refuse it; nothing of it changes what is asked."""
    request, left_out = sent(kind, model, AGENTS, betas="context-1m-2025-08-07")
    assert not any(name in str(request) for name in (NATIVE, "context_management", "defer_loading", "task_budget"))
    told = {"context_management", "output_config", "tools[].defer_loading", "tools[].input_examples"}
    assert told <= set(left_out)
    assert "anthropic-beta" not in left_out


def test_features_are_asked_for_in_the_header_that_the_client_sent() -> None:
    """As it came, and only where it may stand in a header."""
    for betas, expected in (("a-1, b-2", "a-1, b-2"), ("a\r\nx: y", None), ("", None)):
        chat = chat_request_of(body(), betas)
        assert KINDS["anthropic"].wire.headers("https://h", "k", "r", chat).get("anthropic-beta") == expected
        assert "anthropic-beta" not in KINDS["openai"].wire.headers("https://h/v1", "k", "r", chat)


def test_anthropics_own_tools_go_to_anthropic_alone() -> None:
    """A search that nobody makes would be another answer: models of others are not asked."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    assert sent("anthropic", "claude-sonnet-4-5", {"tools": [search]})[0]["tools"] == [search]
    chat = chat_request_of(body(tools=[search], mcp_servers=[{"type": "url", "url": "https://h", "name": "n"}]))
    for kind in ("openai", "openrouter", "google"):
        why = dishonours(chat)(kind, manners_of(kind, "", "m"))
        assert why is not None
        assert "tools[0].type" in why
        assert "mcp_servers" in why


@pytest.mark.parametrize(
    ("kind", "model", "stays"),
    [("anthropic", "claude-opus-4-8", True), ("anthropic", "claude-sonnet-4-5", False), ("openai", "m", True)],
)
def test_a_system_text_among_the_turns_stays_where_it_may(kind: Any, model: str, stays: bool) -> None:
    """Behind a user's turn, which keeps what is cached before it; elsewhere it joins the system text."""
    turns = [{"role": "user", "content": "hi"}, {"role": "system", "content": "The date changed."}]
    request, _ = sent(kind, model, {"system": "first", "messages": turns})
    roles = [message["role"] for message in request["messages"] if message["content"] != "first"]
    assert roles == (["user", "system"] if stays else ["user"])
    assert "The date changed." in str(request)


def test_a_document_by_url_is_anthropics_to_fetch() -> None:
    """It is passed on by its address, and never fetched here."""
    document = {"type": "document", "source": {"type": "url", "url": "https://example.org/report"}}
    request, _ = sent("anthropic", "claude-sonnet-4-5", {"messages": [user(document, {"type": "text", "text": "?"})]})
    assert request["messages"][0]["content"][0] == document
