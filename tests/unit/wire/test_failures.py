"""Classification of failed provider calls by status and error body, and what their messages may hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.wire.failures import (
    MAX_RETRY_AFTER_S,
    classify_embedded,
    classify_error_event,
    classify_response,
    connection_error,
    malformed,
    parse_retry_after,
    redact,
    retry_after_of,
    scrub,
    stream_cut,
    timed_out,
)

SAME, BACK, UP = Remedy.RETRY_SAME, Remedy.FALL_BACK, Remedy.GIVE_UP


def openai(code: str | None = None, message: str = "m", kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "m") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"}


def gemini(code: int, status: str, message: str = "m", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


RESPONSES = [
    (429, openai("rate_limit_exceeded", kind="requests"), {}, "rate_limited", SAME),
    (429, openai(), {"retry-after": "5"}, "rate_limited", SAME),
    (429, openai(), {"retry-after": "6"}, "rate_limited", BACK),
    (429, openai(), {"retry-after": "-1"}, "rate_limited", SAME),
    (429, openai(), {"retry-after": "garbage"}, "rate_limited", SAME),
    (429, openai("insufficient_quota", kind="insufficient_quota"), {}, "rate_limited", BACK),
    (429, gemini(429, "RESOURCE_EXHAUSTED", "m", {"retryDelay": "34s"}), {}, "rate_limited", BACK),
    (429, gemini(429, "RESOURCE_EXHAUSTED", "m", {"retryDelay": "0.5s"}), {}, "rate_limited", SAME),
    (500, openai(kind="server_error"), {}, "server_error", SAME),
    (502, "<html>Bad gateway</html>", {}, "server_error", SAME),
    (503, "", {}, "server_error", SAME),
    (503, "", {"retry-after": "60"}, "server_error", BACK),
    (503, gemini(503, "UNAVAILABLE"), {}, "overloaded", SAME),
    (529, anthropic("overloaded_error"), {}, "overloaded", SAME),
    (504, "", {}, "server_error", BACK),
    (408, "", {}, "server_error", SAME),
    (401, openai("invalid_api_key"), {}, "authentication", BACK),
    (401, anthropic("authentication_error"), {}, "authentication", BACK),
    (400, gemini(400, "INVALID_ARGUMENT", "m", {"reason": "API_KEY_INVALID"}), {}, "authentication", BACK),
    (403, gemini(403, "PERMISSION_DENIED"), {}, "permission", BACK),
    (403, {"error": {"code": 403, "message": "m", "metadata": {"flagged_input": "x"}}}, {}, "content_filter", BACK),
    (402, {"error": {"code": 402, "message": "m"}}, {}, "permission", BACK),
    (404, openai("model_not_found"), {}, "not_found", BACK),
    (404, anthropic("not_found_error"), {}, "not_found", BACK),
    (400, openai("context_length_exceeded"), {}, "context_length", BACK),
    (400, anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), {}, "context_length", BACK),
    (
        400,
        gemini(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        {},
        "context_length",
        BACK,
    ),
    (400, {"object": "error", "message": "maximum context length is 8", "code": 400}, {}, "context_length", BACK),
    (413, anthropic("request_too_large"), {}, "context_length", BACK),
    (400, openai("content_filter"), {}, "content_filter", BACK),
    (400, openai("content_policy_violation"), {}, "content_filter", BACK),
    (
        400,
        anthropic("invalid_request_error", "Output blocked by content filtering policy"),
        {},
        "content_filter",
        BACK,
    ),
    (400, openai("unsupported_parameter"), {}, "bad_request", BACK),
    (422, {"detail": [{"loc": ["body"], "msg": "x"}]}, {}, "bad_request", BACK),
    (418, "", {}, "bad_request", BACK),
    (302, "", {}, "malformed_response", BACK),
]


@pytest.mark.parametrize(("status", "body", "headers", "error_type", "remedy"), RESPONSES)
def test_responses(status: int, body: Any, headers: dict[str, str], error_type: str, remedy: Remedy) -> None:
    """Each status and body has one meaning, which decides about retry and fallback."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    error = classify_response(status, raw, headers, now_s=0.0)
    assert (error.error_type, error.remedy, error.http_status) == (error_type, remedy, status)
    assert error.message


EMBEDDED = [
    (openai(kind="server_error"), "server_error", SAME),
    (openai("context_length_exceeded"), "context_length", BACK),
    (anthropic("overloaded_error"), "overloaded", SAME),
    (anthropic("invalid_request_error"), "bad_request", BACK),
    (anthropic("rate_limit_error"), "rate_limited", SAME),
    (gemini(503, "UNAVAILABLE"), "overloaded", SAME),
    ([gemini(404, "NOT_FOUND")], "not_found", BACK),
    ({"error": {"code": 429, "message": "upstream"}}, "rate_limited", SAME),
    ({"error": {"code": "502", "message": "upstream"}, "choices": []}, "server_error", SAME),
    ({"error": "model runner crashed"}, "server_error", SAME),
    ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, "bad_request", BACK),
]


@pytest.mark.parametrize(("body", "error_type", "remedy"), EMBEDDED)
def test_errors_inside_a_200(body: Any, error_type: str, remedy: Remedy) -> None:
    """An error that hides behind a 200 or in a stream is that error, never an answer."""
    error = classify_embedded(body)
    assert error is not None
    assert (error.error_type, error.remedy) == (error_type, remedy)


@pytest.mark.parametrize("body", [{}, {"error": None}, {"choices": []}, [], None, 1, "x", {"error": ""}, {"error": {}}])
def test_no_error_is_no_error(body: Any) -> None:
    """Answers that merely have an empty `error` field stay answers."""
    assert classify_embedded(body) is None or body == {"error": {}}


@pytest.mark.parametrize(
    ("error", "error_type", "remedy"),
    [
        (connection_error("x"), "connection_error", SAME),
        (timed_out("connect", 10), "timeout_connect", BACK),
        (timed_out("first_token", 10), "timeout_first_token", BACK),
        (timed_out("idle", 10), "timeout_idle", BACK),
        (stream_cut(), "stream_cut", SAME),
        (malformed("x"), "malformed_response", SAME),
        (classify_error_event(b"plain words"), "server_error", SAME),
    ],
)
def test_failures_without_a_response(error: ProviderError, error_type: str, remedy: Remedy) -> None:
    """What breaks on the way: transient breaks are repeated, silence is not."""
    assert (error.error_type, error.remedy) == (error_type, remedy)


@given(st.integers(300, 599), st.binary(max_size=200))
def test_any_error_body_is_classified(status: int, body: bytes) -> None:
    """No body of a provider breaks the classification."""
    error = classify_response(status, body, {}, 0.0)
    assert error.http_status == status
    assert error.message


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.dictionaries(
    st.sampled_from(["error", "code", "type", "status", "message", "details", "metadata", "object"]), x
) | st.lists(x), max_leaves=20))  # fmt: skip
def test_any_json_is_read(body: Any) -> None:
    """No JSON of a provider breaks the search for an error."""
    error = classify_embedded(body)
    assert error is None or isinstance(error.message, str)


@pytest.mark.parametrize("form", ["sk-canary/1+2=", "sk-canary%2F1%2B2%3D", "sk-canary/1%2B2%3D"])
def test_an_echoed_key_is_removed(form: str) -> None:
    """A provider that repeats our key in its error does not publish it."""
    error = classify_response(401, json.dumps(openai(message=f"bad key {form}!")).encode(), {}, 0.0)
    scrub(error, "sk-canary/1+2=")
    shown = f"{error} {error!r} {error.message} {error.args}"
    assert "canary" not in shown
    assert "[redacted]" in error.message


def test_a_key_is_removed_before_the_message_is_cut() -> None:
    """A cut through the middle of the key must not leave half of it."""
    error = malformed("x" * 495 + "sk-canary-0123456789" + "y" * 500)
    scrub(error, "sk-canary-0123456789")
    assert "sk-" not in error.message
    assert len(error.message) < 510


def test_messages_are_printable() -> None:
    """Control characters of a provider reach no terminal and no log."""
    error = malformed("a\x1b[31m\r\nb")
    scrub(error, None)
    assert error.message.isprintable()


def test_redaction_leaves_other_text_alone() -> None:
    """Without a key, or with one too short to be a secret, nothing changes."""
    assert redact("abc", None) == redact("abc", "abc") == "abc"


# Retry-After in every legal and illegal form.

NOW = 784_111_770.0  # Sun, 06 Nov 1994 08:49:30 GMT

VALUES = [
    ("2", 2.0), ("0", 0.0), (" 2 ", 2.0), ("1.5", 1.5), ("007", 7.0),
    ("Sun, 06 Nov 1994 08:49:37 GMT", 7.0), ("Sunday, 06-Nov-94 08:49:37 GMT", 7.0),
    ("Sun Nov  6 08:49:37 1994", 7.0), ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
    ("Mon, 06 Nov 2000 08:49:37 GMT", MAX_RETRY_AFTER_S), ("9999", MAX_RETRY_AFTER_S), ("9" * 5_000, MAX_RETRY_AFTER_S),
    ("-1", None), ("+5", None), ("1e9", None), ("inf", None), ("nan", None), ("0x10", None), ("٣", None),
    ("", None), (None, None), ("garbage", None), ("soon, please", None), ("2 seconds", None), ("2, 3", None),
    ("Sun, 99 Nov 1994 99:99:99 GMT", None), ("Mon, 06 Nov 999999999999 08:49:37 GMT", None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_retry_after(value: str | None, expected: float | None) -> None:
    """A usable value gives seconds within the cap, anything else counts as absent."""
    assert parse_retry_after(value, NOW) == expected


@given(st.text(max_size=80))
def test_any_text_gives_a_bounded_wait_or_none(value: str) -> None:
    """No header of a provider breaks us or makes us wait for ever."""
    wait = parse_retry_after(value, NOW)
    assert wait is None or 0.0 <= wait <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": "3"}, 3.0),
        ({}, None),
    ],
)
def test_the_finer_header_wins(headers: dict[str, str], expected: float | None) -> None:
    """OpenAI's milliseconds are preferred where they can be read."""
    assert retry_after_of(headers, NOW) == expected
