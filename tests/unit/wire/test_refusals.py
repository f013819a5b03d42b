"""What a provider's error body says, in every common envelope, and what its refusal is about."""

import json
from typing import Any

import pytest

from modelpilot.requests.outcome import Remedy
from modelpilot.wire.failures import classify_embedded, classify_response, scrub

BACK, UP = Remedy.FALL_BACK, Remedy.GIVE_UP
FASTAPI = [
    {"loc": ["body", "messages", 0, "content"], "msg": "field required", "type": "missing"},
    {"loc": ["body", "top_k"], "msg": "must be positive", "type": "greater_than"},
]
FORBIDDEN = {
    "loc": ["body", "messages", 1, "reasoning"],
    "msg": "Extra inputs are not permitted",
    "type": "extra_forbidden",
}
UPSTREAM = {
    "error": {"message": "no such voice", "type": "invalid_request_error", "param": "voice", "code": "bad_voice"}
}


def openai(**fields: Any) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None, **fields}}


def violation(field: str) -> dict[str, Any]:
    """Gemini's error with a field violation."""
    details = [{"@type": "BadRequest", "fieldViolations": [{"field": field, "description": "d"}]}]
    return {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT", "details": details}}


ENVELOPES: list[tuple[Any, str, str | None, str | None]] = [
    (openai(code="c", param="top_p"), "no", "c", "top_p"),
    ({"error": {"code": "DeploymentNotFound", "message": "no"}}, "no", "DeploymentNotFound", None),
    (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}, "request_id": "r"},
        "no",
        None,
        None,
    ),
    (violation("generation_config.top_k"), "no", None, "generation_config.top_k"),
    ([violation("contents")], "no", None, "contents"),
    ({"detail": "no"}, "no", None, None),
    ({"detail": FASTAPI[:1]}, "messages[0].content: field required", None, "messages[0].content"),
    (
        {"detail": FASTAPI},
        "messages[0].content: field required; top_k: must be positive",
        None,
        "messages[0].content",
    ),
    ({"detail": {"error": "no"}}, "no", None, None),
    ({"object": "error", "message": "no", "type": "invalid_model", "param": None, "code": "1500"}, "no", "1500", None),
    (
        {"object": "error", "message": {"detail": [FORBIDDEN]}},
        "messages[1].reasoning: Extra inputs are not permitted",
        None,
        "messages[1].reasoning",
    ),
    ({"message": [{"loc": ["body", "n"], "msg": "no"}]}, "n: no", None, "n"),
    ({"id": "x", "message": "no"}, "no", None, None),
    (
        openai(message="Provider returned error", code=400, metadata={"raw": json.dumps(UPSTREAM)}),
        "no such voice",
        "bad_voice",
        "voice",
    ),
    (
        openai(message="Provider returned error", code=400, metadata={"raw": UPSTREAM}),
        "no such voice",
        "bad_voice",
        "voice",
    ),
    (openai(message="Provider returned error", code=400, metadata={"raw": "plain words"}), "plain words", None, None),
    ({"error": "no"}, "no", None, None),
    ({"error": ["no", "never"]}, "no; never", None, None),
    ({"error": "Input validation error: no", "error_type": "validation"}, "Input validation error: no", None, None),
    ({"error": "Bad Request", "message": "no"}, "no", None, None),
    (
        {"code": "Client specified an invalid argument", "error": "no"},
        "no",
        "Client specified an invalid argument",
        None,
    ),
    ({"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400}, "no", None, None),
    ({"success": False, "errors": [{"message": "no", "code": 5007}], "result": {}, "messages": []}, "no", None, None),
    ({"__type": "com.amazon.coral.validate#ValidationException", "message": "no"}, "no", None, None),
    ({"Message": "no"}, "no", None, None),
    ({"code": "InvalidParameter", "message": "no", "request_id": "r"}, "no", "InvalidParameter", None),
    ({"error_code": "BAD_REQUEST", "message": "no"}, "no", "BAD_REQUEST", None),
    ({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "no"}, "no", None, None),
    ("no", "no", None, None),
    (b"plain words", "plain words", None, None),
    (
        b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"InvalidParameter","message":"no"}',
        "no",
        "InvalidParameter",
        None,
    ),
    (b"<html>", "the provider answered 400 without a reason", None, None),
    (b"", "the provider answered 400 without a reason", None, None),
    ({"error": {}}, "the provider answered 400 without a reason", None, None),
    ([], "the provider answered 400 without a reason", None, None),
]


@pytest.mark.parametrize(("body", "message", "code", "param"), ENVELOPES)
def test_every_envelope_gives_its_reason(body: Any, message: str, code: str | None, param: str | None) -> None:
    """The provider's own words, code and parameter reach the client, whoever wrote them."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = classify_response(400, raw, {}, 0.0)
    assert (error.message, error.code, error.param) == (message, code, param)


REFUSALS: list[tuple[int, Any, str, str | None, Remedy]] = [
    # About the model or what it takes: whatever is not clearly about something else.
    (400, openai(), "bad_request", "request", BACK),
    (422, openai(), "bad_request", "request", BACK),
    (400, b"", "bad_request", "request", BACK),
    (400, openai(code="unsupported_value", param="temperature"), "bad_request", "request", BACK),
    (400, openai(code="unsupported_parameter", param="max_tokens"), "bad_request", "parameter", BACK),
    (400, openai(code="unknown_parameter", param="seed"), "bad_request", "parameter", BACK),
    (422, {"detail": [FORBIDDEN]}, "bad_request", "parameter", BACK),
    (
        400,
        openai(code="invalid_function_parameters", param="tools[0].function.parameters"),
        "bad_request",
        "request",
        BACK,
    ),
    (400, openai(code="string_above_max_length", param="messages[1].tool_calls[0].id"), "bad_request", "request", BACK),
    (400, openai(param="messages.[0].content.[1].type"), "bad_request", "request", BACK),
    (400, openai(code="unsupported_value", param="messages[0].role"), "bad_request", "request", BACK),
    (400, violation("contents[0].parts[0]"), "bad_request", "request", BACK),
    (413, b"<html>", "context_length", "request", BACK),
    (400, openai(code="context_length_exceeded", param="messages"), "context_length", "request", BACK),
    (
        400,
        {"error": {"code": 400, "message": "no", "type": "exceed_context_size_error"}},
        "context_length",
        "request",
        BACK,
    ),
    (400, {"message": "too many tokens: 9000"}, "context_length", "request", BACK),
    (404, openai(code=404, message="No endpoints found that support tool use"), "not_found", "request", BACK),
    # About the body.
    (400, openai(code="invalid_json"), "bad_request", None, UP),
    (
        422,
        {"detail": [{"loc": ["body", 9], "msg": "JSON decode error", "type": "json_invalid"}]},
        "bad_request",
        None,
        UP,
    ),
    (400, openai(code="invalid_image", param="messages[0].content[1].image_url"), "bad_request", None, UP),
    (400, openai(param="messages"), "bad_request", None, UP),
    (400, openai(param="messages.[2].role"), "bad_request", None, UP),
    (400, openai(code="missing_required_parameter", param="messages[0].content"), "bad_request", None, UP),
    (422, {"detail": FASTAPI[:1]}, "bad_request", None, UP),
    # About the content.
    (
        400,
        {
            "error": {
                "code": "content_filter",
                "message": "no",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        "content_filter",
        None,
        BACK,
    ),
    (400, openai(code="invalid_prompt"), "content_filter", None, BACK),
    (400, {"code": "data_inspection_failed", "message": "no"}, "content_filter", None, BACK),
    # The key, its credit, or the model to it.
    (401, b"", "authentication", "key", BACK),
    (
        403,
        {
            "error": {
                "code": 403,
                "status": "PERMISSION_DENIED",
                "message": "no",
                "details": [{"reason": "SERVICE_DISABLED"}],
            }
        },
        "authentication",
        "key",
        BACK,
    ),
    (403, openai(code="unsupported_country_region_territory"), "authentication", "key", BACK),
    (402, openai(), "permission", "credit", BACK),
    (403, openai(type="billing_error"), "permission", "credit", BACK),
    (429, openai(code="insufficient_quota"), "rate_limited", "credit", BACK),
    (429, openai(type="exceeded_current_quota_error"), "permission", "credit", BACK),
    (403, b"", "permission", "model", BACK),
    (
        403,
        {"object": "error", "message": "this plan is too small", "type": "plan", "code": "77"},
        "permission",
        "model",
        BACK,
    ),
    (403, {"type": "error", "error": {"type": "permission_error", "message": "no"}}, "permission", "model", BACK),
    (403, openai(code="model_not_found"), "not_found", "model", BACK),
    (404, openai(code="model_not_found"), "not_found", "model", BACK),
    (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, "not_found", "model", BACK),
    (404, {"object": "error", "message": "no", "type": "NotFoundError", "code": 404}, "not_found", "model", BACK),
    (400, {"object": "error", "message": "no", "type": "invalid_model", "code": "1500"}, "not_found", "model", BACK),
    # Somebody behind a relay refused its own key, which is not ours.
    (400, openai(code=400, metadata={"raw": json.dumps(openai(code="invalid_api_key"))}), "permission", "model", BACK),
    # No refusal at all.
    (429, openai(), "rate_limited", None, Remedy.RETRY_SAME),
    (500, openai(), "server_error", None, Remedy.RETRY_SAME),
]


@pytest.mark.parametrize(("status", "body", "error_type", "refused", "remedy"), REFUSALS)
def test_what_a_refusal_is_about(status: int, body: Any, error_type: str, refused: str | None, remedy: Remedy) -> None:
    """That decides who is asked next: nobody, another model, another key, and who is left alone for a while."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = classify_response(status, raw, {}, 0.0)
    assert (error.error_type, error.refused, error.remedy) == (error_type, refused, remedy)


def test_a_refusal_inside_a_stream_is_one() -> None:
    """Relays answer 200 before they know."""
    error = classify_embedded(openai(code="unsupported_value", param="temperature"))
    assert error is not None
    assert (error.refused, error.code, error.param) == ("request", "unsupported_value", "temperature")


def test_what_is_passed_on_is_short_printable_and_without_the_key() -> None:
    """Code and parameter are the provider's text as much as its message is."""
    error = classify_response(400, json.dumps(openai(code="sk-canary\n" + "c" * 200, param="p\x1b")).encode(), {}, 0.0)
    scrub(error, "sk-canary")
    assert (error.code or "").startswith("[redacted] c")
    assert (len(error.code or ""), error.param) == (100, "p")


@pytest.mark.parametrize("code", [7, None, ["x"], {"x": 1}, "", "400", True])
def test_only_text_is_passed_on_as_a_code(code: Any) -> None:
    """SDKs expect text; a status that was repeated there says nothing."""
    error = classify_response(400, json.dumps(openai(code=code, param=code)).encode(), {}, 0.0)
    assert error.code is None
    assert error.param in (None, "400")
