"""The table from errors to answers."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from api.app import RUNNER_OPTIONS
from api.http.errors import UnsupportedEncoding, describe, error_response, openai_envelope
from api.http.registry import RouteSpec, add_routes
from modelpilot import errors
from tests.support.management_fakes import FakeStores, bearer

Client = Callable[..., Awaitable[TestClient[web.Request, web.Application]]]

STATUSES: list[tuple[errors.ModelPilotError, int]] = [
    (errors.MalformedBody("m"), 400),
    (errors.InvalidRequest("m", param="a.b"), 422),
    (errors.AuthenticationFailed("m"), 401),
    (errors.PermissionDenied("m"), 403),
    (errors.NotFound("m"), 404),
    (errors.Conflict("m"), 409),
    (errors.PayloadTooLarge("m"), 413),
    (UnsupportedEncoding("m"), 415),
    (errors.IdempotencyMismatch("m"), 422),
    (errors.NoCandidate("m", details={"candidates": []}), 422),
    (errors.ProviderFailed("m", details={"attempts": [{"model": "a"}]}), 502),
    (errors.ProviderTimedOut("m"), 504),
    (errors.StreamDiverged("m"), 502),
    (errors.ProviderRejected("m"), 502),
    (errors.ContextLengthExceeded("m", details={"candidates": []}), 400),
    (errors.RequestRefused("m", code="their_code", param="top_p", details={"providerStatus": 422}), 400),
    (errors.ModelRefused("m", details={"providerStatus": 404}), 404),
    (errors.RateLimited("m"), 429),
    (errors.RequestCanceled("m"), 499),
    (errors.DependencyUnavailable("m"), 503),
    (errors.Overloaded("m"), 503),
    (errors.ModelPilotError("m"), 500),
]


@pytest.mark.parametrize(("error", "status"), STATUSES, ids=lambda value: type(value).__name__)
def test_every_error_has_its_status(error: errors.ModelPilotError, status: int) -> None:
    """Status, OpenAI's four fields, and when to come back."""
    response = error_response(error)
    assert isinstance(response.body, bytes)
    body = json.loads(response.body)["error"]
    assert response.status == status
    assert (body["message"], body["param"], body["code"]) == ("m", error.param, error.code)
    assert body["type"]
    assert error.details.items() <= body.items()
    assert ("retry-after" in response.headers) == (status in (429, 503))
    retriable = status in (429, 500, 502, 503, 504) and not isinstance(error, errors.ProviderRejected)
    assert ("x-should-retry" in response.headers) == (not retriable)


def test_every_error_class_is_in_the_test_above() -> None:
    """A new error class needs a decision about its status."""
    tested = {type(error) for error, _ in STATUSES} | {errors.EmbedderMismatch}
    family = {item for item in vars(errors).values() if isinstance(item, type)}
    assert {item for item in family if issubclass(item, errors.ModelPilotError)} <= tested


@pytest.mark.parametrize(("wait_s", "header"), [(0.0, "1"), (0.2, "1"), (2.0, "2"), (2.1, "3")])
def test_retry_after_is_whole_seconds_rounded_up(wait_s: float, header: str) -> None:
    """Never earlier than asked, and never zero."""
    assert describe(errors.Overloaded("m", retry_after_s=wait_s)).headers["retry-after"] == header


def test_details_do_not_replace_openais_fields() -> None:
    """A detail called `message` must not hide the message."""
    view = describe(errors.Conflict("m", details={"message": "other", "routers": ["a"]}))
    assert openai_envelope(view)["error"]["message"] == "m"


async def _raise_unexpected(request: web.Request) -> web.StreamResponse:
    raise KeyError(request.headers["x-secret"])


async def _raise_in_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"data: 1\n\n")
    raise KeyError("half-way")


def _shouting_envelope(view: Any) -> dict[str, Any]:
    return {"shout": view.message.upper()}


async def _refuse(request: web.Request) -> web.StreamResponse:
    raise errors.NotFound("gone")


def _extra(app: web.Application) -> None:
    add_routes(
        app,
        [
            RouteSpec("GET", "/boom", _raise_unexpected, "public", "s", "t"),
            RouteSpec("GET", "/stream", _raise_in_stream, "public", "s", "t"),
            RouteSpec("GET", "/shout", _refuse, "public", "s", "t", envelope=_shouting_envelope),
        ],
    )


async def test_unknown_exception_is_a_plain_500(aiohttp_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the client nor the log learns the exception's text; the log learns where it was."""
    client = await aiohttp_client(FakeStores().app(extra_routes=[_extra]))
    with caplog.at_level(logging.ERROR):
        response = await client.get("/boom", headers={"x-secret": "canary"})
    assert response.status == 500
    assert (await response.json())["error"]["code"] == "internal_error"
    assert response.headers["x-request-id"] in caplog.text
    assert "_raise_unexpected" in caplog.text
    assert "canary" not in caplog.text + await response.text()


async def test_a_stream_that_fails_does_not_end_like_a_complete_one(aiohttp_client: Client) -> None:
    """The connection is cut: no terminating chunk, no second answer inside the first."""
    client = await aiohttp_client(FakeStores().app(extra_routes=[_extra]))
    response = await client.get("/stream")
    assert response.headers["x-request-id"]
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        await response.read()


async def test_a_route_may_have_its_own_envelope(aiohttp_client: Client) -> None:
    """The seam for Anthropic's error shape."""
    client = await aiohttp_client(FakeStores().app(extra_routes=[_extra]))
    response = await client.get("/shout")
    assert (response.status, await response.json()) == (404, {"shout": "GONE"})


async def test_aiohttps_own_errors_have_the_same_shape(aiohttp_client: Client) -> None:
    """Unknown route and wrong method."""
    client = await aiohttp_client(FakeStores().app())
    missing, wrong = await client.get("/nowhere"), await client.delete("/healthz")
    assert (missing.status, (await missing.json())["error"]["code"]) == (404, "unknown_route")
    assert (wrong.status, (await wrong.json())["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    assert missing.headers["x-request-id"] != wrong.headers["x-request-id"]


async def _chunks(count: int) -> Any:
    for _ in range(count):
        await asyncio.sleep(0)
        yield b" " * 1_000


@pytest.mark.parametrize("data", [b" " * 5_000, 5], ids=["with a length", "chunked"])
async def test_a_body_over_the_limit_is_413(aiohttp_client: Client, data: bytes | int) -> None:
    """However its length is told."""
    stores = FakeStores()
    client = await aiohttp_client(stores.app(max_body_bytes=4_000))
    body = _chunks(data) if isinstance(data, int) else data
    response = await client.post("/api/routers", data=body, headers=bearer(stores.keys.add("a")))
    assert (response.status, (await response.json())["error"]["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_compressed_body_is_refused_unread(aiohttp_client: Client, encoding: str) -> None:
    """A gzip bomb cannot go off."""
    stores = FakeStores()
    server = TestServer(stores.app())
    await server.start_server(auto_decompress=RUNNER_OPTIONS["auto_decompress"])
    client = await aiohttp_client(server)
    headers = bearer(stores.keys.add("a")) | {"content-encoding": encoding}
    response = await client.post("/api/routers", data=b"\x1f\x8b", headers=headers)
    assert (response.status, (await response.json())["error"]["param"]) == (415, "Content-Encoding")
