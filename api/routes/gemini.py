"""Google's Gemini API over the same submissions, for google-genai: `generateContent`, `streamGenerateContent` (events
with `?alt=sse`, else a JSON array), `countTokens`, embeddings, and the list of models.
"""

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from aiohttp import web
from pydantic import BaseModel

from api.gateway.admission import admitted
from api.gateway.answer import SUBMISSIONS, AnswerStream, Format, answer, event
from api.gateway.receive import Translated
from api.http.bodies import parse_object, read_with, validate
from api.http.errors import ErrorView
from api.http.registry import QueryParam, RouteSpec
from api.http.responses import json_response
from api.routes.embeddings import EmbeddingsBody, embedded
from api.routes.model_list import GoogleModel, GoogleModelList, google_model, google_models
from modelpilot.chat.profile import with_metadata
from modelpilot.requests.records import RequestRecord
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.gemini_embeddings import (
    BatchEmbedContentsBody,
    EmbedContentBody,
    embeddings_of,
    embeddings_request_of,
)
from modelpilot.wire.gemini_front import (
    CountTokensBody,
    GenerateContentBody,
    chat_request_of,
    counted,
    wants_thoughts,
)
from modelpilot.wire.gemini_front_answer import ResponseEncoder, response_of
from modelpilot.wire.jsonb import dump

# Google's own words, by status.
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPES = "type.googleapis.com/google.rpc."
_ALT = QueryParam("alt", "`sse`: server-sent events; otherwise the stream is a JSON array.")
_KEY = QueryParam("key", "The API key, for clients that send it here; x-goog-api-key stays out of logs.")


class GenerateContentResponse(BaseModel):
    """Google's response with our `modelpilot` object beside its own fields."""

    candidates: list[dict[str, Any]]
    usageMetadata: dict[str, Any]  # noqa: N815 - Google's name
    modelVersion: str  # noqa: N815
    responseId: str  # noqa: N815
    modelpilot: dict[str, Any]


class GoogleEmbeddings(BaseModel):
    """Google's embeddings, `embedding` of one text or `embeddings` of several, with our `modelpilot` object."""

    embedding: dict[str, Any] | None = None
    embeddings: list[dict[str, Any]] | None = None
    usageMetadata: dict[str, Any]  # noqa: N815
    modelpilot: dict[str, Any]


class TokenTotal(BaseModel):
    """An estimate that does not depend on the model."""

    totalTokens: int  # noqa: N815


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `SUBMISSIONS`."""
    google = partial(
        RouteSpec, scope="route", tag="gemini", envelope=google_envelope, invalid_status=400, key_in_query=True
    )
    model, generated = "/v1beta/models/{model:.+}", GenerateContentResponse
    generate = partial(google, "POST", request=GenerateContentBody, response=generated)
    counting, one = "Estimate the input tokens of a request", "/v1beta/models/{id:.*[^/]}"
    return [
        generate(
            f"{model}:generateContent",
            admitted(_generate),
            summary="Route a request in Gemini's format (or call one model, by its name in the path)",
            query=(_KEY,),
        ),
        generate(
            f"{model}:streamGenerateContent",
            admitted(_stream),
            summary="The same as a stream of responses",
            query=(_ALT, _KEY),
        ),
        google(
            "POST",
            f"{model}:countTokens",
            admitted(_count),
            summary=counting,
            request=CountTokensBody,
            response=TokenTotal,
            query=(_KEY,),
        ),
        *(
            google(
                "POST",
                f"{model}:{name}",
                admitted(partial(_embed, kind=kind)),
                summary=f"Embeddings of {said}, in Gemini's format",
                request=kind,
                response=GoogleEmbeddings,
                query=(_KEY,),
            )
            for name, kind, said in (
                ("embedContent", EmbedContentBody, "one text"),
                ("batchEmbedContents", BatchEmbedContentsBody, "several texts"),
            )
        ),
        google("GET", "/v1beta/models", google_models, summary="List models and routers", response=GoogleModelList),
        google("GET", one, google_model, summary="Read a model or router", response=GoogleModel),
    ]


def google_envelope(view: ErrorView) -> dict[str, Any]:
    """Google's error object; our code, field and details are in its `details`."""
    status = _STATUSES.get(view.status, "INVALID_ARGUMENT" if view.status < 500 else "INTERNAL")
    metadata = {name: value for name, value in (("param", view.param), ("requestId", view.request_id)) if value}
    info = {"@type": f"{_TYPES}ErrorInfo", "reason": view.code.upper(), "domain": "modelpilot", "metadata": metadata}
    details: list[dict[str, Any]] = [info]
    if wait_s := view.headers.get("retry-after"):
        details.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{wait_s}s"})
    if view.details:
        details.append({"@type": "modelpilot", **view.details})
    return {"error": {"code": view.status, "message": view.message, "status": status, "details": details}}


async def _generate(request: web.Request) -> web.StreamResponse:
    return await _answer(request, stream=False)


async def _stream(request: web.Request) -> web.StreamResponse:
    return await _answer(request, stream=True)


async def _answer(request: web.Request, *, stream: bool) -> web.StreamResponse:
    received_at = time.monotonic()
    body, translated = await read_with(request, partial(_translated, model=_model(request), stream=stream))
    shown = wants_thoughts(body)
    kind = EventStream if request.query.get("alt") == "sse" else ArrayStream
    form = Format(
        whole=partial(response_of, with_thoughts=shown),
        stream=lambda *args, **more: kind(*args, **more, encoder=ResponseEncoder(with_thoughts=shown)),
        names=_names,
    )
    return await answer(request, await translated.received(request, received_at), form)


def _names(request_id: str, model: str) -> dict[str, Any]:
    return {"responseId": request_id, "modelVersion": model}


async def _count(request: web.Request) -> web.StreamResponse:
    received_at = time.monotonic()
    _, translated = await read_with(request, partial(_counted, model=_model(request)))
    received = await translated.received(request, received_at)
    return json_response({"totalTokens": await request.app[SUBMISSIONS].prompt_tokens(received)})


async def _embed(request: web.Request, kind: type[EmbedContentBody | BatchEmbedContentsBody]) -> web.StreamResponse:
    def translated(raw: bytes) -> EmbeddingsBody:
        body = parse_object(raw)
        validate(body, kind)
        return validate(embeddings_request_of(body, _model(request)), EmbeddingsBody)

    made, headers = await embedded(request, await read_with(request, translated))
    return json_response(embeddings_of(made, batch=kind is BatchEmbedContentsBody), headers=headers)


def _model(request: web.Request) -> str:
    return request.match_info["model"].removeprefix("models/")


def _translated(raw: bytes, model: str, *, stream: bool) -> tuple[dict[str, Any], Translated]:
    return _chat_of(parse_object(raw), model, stream=stream)


def _counted(raw: bytes, model: str) -> tuple[dict[str, Any], Translated]:
    body = parse_object(raw)
    validate(body, CountTokensBody)
    return _chat_of(counted(body), model, stream=False)


def _chat_of(body: dict[str, Any], model: str, *, stream: bool) -> tuple[dict[str, Any], Translated]:
    validate(body, GenerateContentBody)
    chat = with_metadata(chat_request_of(body, model, stream=stream), body.get("labels"))
    return body, Translated.of(chat)


@dataclass(slots=True)
class ResponseStream(AnswerStream):
    """Google's stream of responses; a subclass knows what stands around each."""

    encoder: ResponseEncoder = field(kw_only=True)

    def encode(self, chunks: list[Chunk]) -> bytes:
        """The response of each chunk that has something to show."""
        responses = (self.encoder.take(chunk) for chunk in chunks)
        names = _names(self.request_id, self.model)
        return b"".join(self.framed({**response, **names}) for response in responses if response is not None)

    def ending(self, record: RequestRecord, described: dict[str, Any]) -> bytes:
        """The last response, with our object."""
        last = self.encoder.end(self.request_id, self.model, modelpilot=described)
        return self.framed({**last, **_names(self.request_id, self.model)}) + self.closing()

    def failing(self, view: ErrorView, described: dict[str, Any]) -> bytes:
        """An error in the place of the last response."""
        return self.framed({**google_envelope(view), "modelpilot": described}) + self.closing()

    def keep_alive(self) -> bytes:
        """An empty line: google-genai takes a comment for the beginning of an error."""
        return b"\n"

    def framed(self, response: dict[str, Any]) -> bytes:
        """One response on the wire."""
        return event(response)

    def closing(self) -> bytes:
        """What ends the stream."""
        return b""


@dataclass(slots=True)
class EventStream(ResponseStream):
    """As server-sent events, with `?alt=sse`."""


@dataclass(slots=True)
class ArrayStream(ResponseStream):
    """As the elements of one JSON array."""

    content_type: ClassVar[str] = "application/json"
    _begun: bool = field(default=False, init=False)

    def framed(self, response: dict[str, Any]) -> bytes:
        """An element, behind what separates it from the one before."""
        before, self._begun = (b",\n" if self._begun else b"["), True
        return before + dump(response)

    def closing(self) -> bytes:
        """The end of the array."""
        return b"]"
