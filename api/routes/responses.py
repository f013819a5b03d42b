"""`POST /v1/responses`: OpenAI's Responses format over the same submissions, hence the same workflow and row; and what
is kept of a response, to read, to list, to delete and to go on from.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.gateway.admission import admitted
from api.gateway.answer import SUBMISSIONS, AnswerStream, Format, answer, event
from api.gateway.described import modelpilot_object, with_cost
from api.gateway.receive import Translated, check_allowed
from api.http.bodies import parse_object, read_with, validate
from api.http.errors import ErrorView
from api.http.middleware import PRINCIPAL
from api.http.registry import QueryParam, RouteSpec
from api.http.responses import json_response
from api.routes.feedback import TEXTS
from api.routes.requests import LEDGER, REGISTRY
from api.services import SERVICES
from modelpilot.chat.profile import with_metadata
from modelpilot.errors import DependencyUnavailable, InvalidRequest, NotFound, Overloaded, PayloadTooLarge
from modelpilot.requests.ports import ReasoningSeal, ResponseStore
from modelpilot.requests.records import Principal, RequestKey, RequestRecord
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.identity import RESPONSE, names, request_id_of
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.responses_chain import (
    KeptResponse,
    PreviousResponseNotFound,
    listed,
    named_requests,
    resolved,
)
from modelpilot.wire.responses_front import ResponsesBody, chat_request_of, check
from modelpilot.wire.responses_front_answer import Asked, Seal, output_of, response_object, response_of
from modelpilot.wire.responses_input import as_items
from modelpilot.wire.responses_stream import ResponseEncoder
from modelpilot.wire.responses_tools import Toolbox, toolbox_of

RESPONSES: web.AppKey[ResponseStore] = web.AppKey("responses", ResponseStore)
REASONING: web.AppKey[ReasoningSeal] = web.AppKey("reasoning", ReasoningSeal)

# A healthy commit takes milliseconds. An answer does not wait longer for being kept; then it says that it is not.
_PATIENCE_S = 2.0
_MOST_LISTED, _LISTED = 100, 20
_NOT_KEPT = ("input", "modelpilot")
_DONE = b"data: [DONE]\n\n"


class Response(BaseModel):
    """A Response of OpenAI's with our `modelpilot` object beside its own fields."""

    id: str
    object: str
    created_at: int
    status: str
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    modelpilot: dict[str, Any] | None


class DeletedResponse(BaseModel):
    """What is gone."""

    id: str
    object: str
    deleted: bool


class ItemList(BaseModel):
    """A page of input items."""

    object: str
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `RESPONSES`, `REASONING`, and what answers need."""
    spec = partial(RouteSpec, scope="route", tag="routing", invalid_status=400)
    routing = "Route a request in OpenAI's Responses format (or call one model, by `model`)"
    one = "/v1/responses/{response_id}"
    paging = (
        QueryParam("limit", "1 to 100, default 20", "integer"),
        QueryParam("order", "`desc` (default) or `asc`"),
        QueryParam("after", "The id of the item before the page"),
    )
    return [
        spec("POST", "/v1/responses", admitted(_create), summary=routing, request=ResponsesBody, response=Response),
        spec("GET", one, _show, summary="A response, while it is kept", response=Response),
        spec("DELETE", one, _delete, summary="Delete a response, its input and its answer", response=DeletedResponse),
        spec("GET", f"{one}/input_items", _items, summary="What a response answered", response=ItemList, query=paging),
        spec("POST", f"{one}/cancel", _cancel, summary="Refused: nothing runs in the background", response=Response),
    ]


@dataclass(frozen=True, slots=True)
class _Translated:
    """A Responses request, and the same as a chat request."""

    kept: KeptResponse
    tools: Toolbox
    request: Translated


async def _create(request: web.Request) -> web.StreamResponse:
    received_at = time.monotonic()
    translate = partial(_translated, request.app[REASONING], request[PRINCIPAL])
    body, items, translated = await read_with(request, partial(_first_look, translate))
    if translated is None:
        earlier, items = await _looked_up(request, body, items)
        # A long conversation takes a while.
        translated = await asyncio.to_thread(translate, body, earlier, items)
        if len(translated.request.raw) > request.app[SERVICES].max_body_bytes:
            raise PayloadTooLarge("The conversation is longer than a request may be.", param="previous_response_id")
    received = await translated.request.received(request, received_at)
    seal = partial(request.app[REASONING].seal, received.principal.user_id)
    exchange = Exchange(request.app[RESPONSES], seal, translated.kept, translated.tools)
    form = Format(
        exchange.whole, exchange.stream, partial(names, RESPONSE), begun=exchange.begun, described=exchange.described
    )
    return await answer(request, received, form)


def _first_look(
    translate: Callable[[JsonObject, list[JsonObject], list[JsonObject]], "_Translated"], raw: bytes
) -> tuple[JsonObject, list[JsonObject], _Translated | None]:
    """The checked body and its items; translated already where that needs no earlier answer."""
    body = parse_object(raw)
    validate(body, ResponsesBody)
    check(body)
    items = as_items(body.get("input"))
    alone = body.get("previous_response_id") is None and not named_requests(items)
    return body, items, translate(body, [], resolved(items, {})) if alone else None


def _translated(
    reasoning: ReasoningSeal, principal: Principal, body: JsonObject, earlier: list[JsonObject], items: list[JsonObject]
) -> _Translated:
    opened = partial(reasoning.open, principal.user_id)
    everything = [*earlier, *items]
    tools = toolbox_of(body.get("tools"), everything)
    chat = with_metadata(chat_request_of(body, everything, tools, opened, len(earlier)), body.get("metadata"))
    shown = {name: value for name, value in body.items() if name not in _NOT_KEPT}
    kept = KeptResponse(shown, int(time.time()), earlier, items)
    return _Translated(kept, tools, Translated.of(chat))


async def _looked_up(
    request: web.Request, body: JsonObject, items: list[JsonObject]
) -> tuple[list[JsonObject], list[JsonObject]]:
    """The items of the requests before this one, and its own with those that were only named. Raises InvalidRequest."""
    previous, user_id = body.get("previous_response_id"), request[PRINCIPAL].user_id
    before = None if previous is None else request_id_of(previous) or ""
    wanted = named_requests(items) | ({before} if before else set())
    found = await request.app[RESPONSES].find(user_id, wanted) if wanted else {}
    outputs = {each: await _output(request, RequestKey(user_id, each), kept) for each, kept in found.items()}
    known = {
        item["id"]: item for each, kept in found.items() for item in (*listed(kept.items, each), *(outputs[each] or ()))
    }
    earlier: list[JsonObject] = []
    if before is not None:
        said = outputs.get(before)
        if said is None:
            message = f"Previous response with id '{str(previous)[:200]}' not found."
            raise PreviousResponseNotFound(message, param="previous_response_id")
        earlier = [*found[before].earlier, *found[before].items, *said]
    return earlier, resolved(items, known)


async def _output(request: web.Request, key: RequestKey, kept: KeptResponse) -> list[JsonObject] | None:
    """What an earlier request was answered, with its reasoning sealed; None where there is no answer to go on from."""
    record = await request.app[SUBMISSIONS].find(key)
    if record is None or record.outcome.status != "completed" or record.outcome.answer is None:
        return None
    check_allowed(request[PRINCIPAL], record.router_id)
    return output_of(_asked(request, key, kept), record.outcome.answer, sealed=True)


def _asked(request: web.Request, key: RequestKey, kept: KeptResponse) -> Asked:
    seal = partial(request.app[REASONING].seal, key.user_id)
    tools = toolbox_of(kept.body.get("tools"), [*kept.earlier, *kept.items])
    return Asked(key.request_id, kept.body, kept.created_at, seal, tools)


@dataclass(slots=True)
class Exchange:
    """One request and how it is answered; it is kept before anything of its answer leaves."""

    store: ResponseStore
    seal: Seal
    kept: KeptResponse
    tools: Toolbox
    asked: Asked = field(init=False)

    async def begun(self, key: RequestKey) -> None:
        """Keep the request, unless it says otherwise, while its provider works."""
        stored = False
        if self.kept.body.get("store") is not False:
            # Paid for already: without the database the answer leaves all the same, and says that it was not kept.
            with suppress(DependencyUnavailable, Overloaded, TimeoutError):
                await asyncio.wait_for(self.store.put(key, self.kept), _PATIENCE_S)
                stored = True
        self.asked = Asked(key.request_id, self.kept.body, self.kept.created_at, self.seal, self.tools, stored)

    def whole(self, completion: JsonObject) -> JsonObject:
        """The Response of a completion."""
        return response_of(self.asked, completion)

    def stream(self, *places: Any, **options: Any) -> "ResponsesStream":
        """The stream of an answer."""
        return ResponsesStream(*places, **options, described=self.described, encoder=ResponseEncoder(self.asked))

    def described(self, described: JsonObject) -> JsonObject:
        """Our object, with what the translation left out."""
        left_out = [{**each, "model": described.get("selectedModel")} for each in self.tools.left_out]
        return {**described, "adjusted": [*described.get("adjusted", ()), *left_out]} if left_out else described


@dataclass(slots=True)
class ResponsesStream(AnswerStream):
    """A Responses stream of named events."""

    encoder: ResponseEncoder = field(kw_only=True)
    described: Callable[[JsonObject], JsonObject] = field(default=lambda described: described, kw_only=True)

    def encode(self, chunks: list[Chunk]) -> bytes:
        """Every event of the chunks."""
        return b"".join(self._owned(self.encoder.take(chunk.data)) for chunk in chunks)

    def _owned(self, events: Iterable[JsonObject], described: JsonObject | None = None) -> bytes:
        """The events with our names in their responses, and what these cost where that is `described`."""

        def owned(event: JsonObject) -> JsonObject:
            response = event.get("response")
            if not response:
                return event
            priced = response if described is None else with_cost(response, described)
            return {**event, "response": {**priced, **names(RESPONSE, self.request_id, self.model)}}

        return _named(map(owned, events))

    def ending(self, record: RequestRecord, described: dict[str, Any]) -> bytes:
        """What ends the items, and the whole Response with our object."""
        described = self.described(described)
        events = self.encoder.end(int(time.time()), modelpilot=described)
        return self._owned(events, described) + _DONE

    def failing(self, view: ErrorView, described: dict[str, Any]) -> bytes:
        """An `error` event and `response.failed`."""
        error = {"type": view.type, "code": view.code, "message": view.message, "param": view.param}
        return self._owned(self.encoder.fail(error, _failure_code(view.status), modelpilot=described))


def _named(events: Iterable[JsonObject]) -> bytes:
    return b"".join(event(item, item["type"]) for item in events)


def _failure_code(status: int) -> str:
    """The word for it among the few that a Response knows."""
    return "rate_limit_exceeded" if status == 429 else "invalid_prompt" if 400 <= status < 500 else "server_error"


async def _show(request: web.Request) -> web.StreamResponse:
    if request.query.get("stream", "").lower() in ("true", "1"):
        raise InvalidRequest("stream: a response that is kept is shown whole", param="stream")
    key, kept = await _kept(request)
    record = await _ended(request, key)
    asked = _asked(request, key, kept)
    if record is None:
        return json_response(response_object(asked, "in_progress", []))
    return json_response(_shown(asked, record))


def _shown(asked: Asked, record: RequestRecord) -> JsonObject:
    """A response that has ended. Raises NotFound where its answer is gone."""
    outcome = record.outcome
    own = modelpilot_object(record, outcome, explain=False)
    described = {"modelpilot": own}
    if outcome.status == "canceled":
        return response_object(asked, "cancelled", [], **described)
    if outcome.status == "failed":
        error = {"code": _failure_code(outcome.error_status or 502), "message": outcome.error_message or ""}
        return response_object(asked, "failed", [], error=error, **described)
    if outcome.answer is None:
        raise _unknown(asked.request_id)
    known = names(RESPONSE, record.key.request_id, outcome.model)
    return {**with_cost(response_of(asked, outcome.answer, record.completed_at), own), **known, **described}


async def _kept(request: web.Request) -> tuple[RequestKey, KeptResponse]:
    """What is kept of the response in the path. Raises NotFound."""
    response_id, user_id = request.match_info["response_id"], request[PRINCIPAL].user_id
    request_id = request_id_of(response_id) or ""
    kept = (await request.app[RESPONSES].find(user_id, [request_id])).get(request_id)
    if kept is None:
        raise NotFound(f"Response with id '{response_id[:200]}' not found.")
    return RequestKey(user_id, request_id), kept


def _unknown(request_id: str) -> NotFound:
    return NotFound(f"Response with id 'resp_{request_id}' not found.")


async def _ended(request: web.Request, key: RequestKey) -> RequestRecord | None:
    """Its record, or None while it runs. Raises NotFound, PermissionDenied."""
    if (flight := request.app[REGISTRY].find(key)) is not None:
        check_allowed(request[PRINCIPAL], flight.request.router_id)
        return flight.record
    is_open = await request.app[LEDGER].is_open(key)  # first: what is not open any more has its row by now
    stored = await request.app[LEDGER].find(key)
    if stored is not None:
        check_allowed(request[PRINCIPAL], stored.record.router_id)
        return stored.record
    if not is_open:
        raise _unknown(key.request_id)
    return None


async def _delete(request: web.Request) -> web.StreamResponse:
    key, _ = await _kept(request)
    if await _ended(request, key) is None:
        raise InvalidRequest("The response is still being written; close its connection, or wait for its end.")
    await request.app[TEXTS].delete(key)
    return json_response({"id": request.match_info["response_id"], "object": "response", "deleted": True})


async def _items(request: web.Request) -> web.StreamResponse:
    key, kept = await _kept(request)
    await _ended(request, key)
    items = listed([*kept.earlier, *kept.items], key.request_id)
    if request.query.get("order", "desc") != "asc":
        items.reverse()
    if after := request.query.get("after"):
        ids = [item["id"] for item in items]
        items = items[ids.index(after) + 1 :] if after in ids else []
    page = items[: _limit(request.query.get("limit"))]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return json_response(
        {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(page) < len(items)}
    )


def _limit(given: str | None) -> int:
    if given is None:
        return _LISTED
    if not given.isdecimal() or not 1 <= int(given) <= _MOST_LISTED:
        raise InvalidRequest(f"limit: 1 to {_MOST_LISTED} was expected", param="limit")
    return int(given)


async def _cancel(request: web.Request) -> web.StreamResponse:
    await _kept(request)
    raise InvalidRequest("Only responses in the background can be canceled, and none are run here; close the stream.")
