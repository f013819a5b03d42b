"""`POST /v1/completions`: OpenAI's old text shape over the same submissions. Several prompts are several requests, each
with a workflow and a row of its own.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from api.gateway.admission import TICKET, admitted
from api.gateway.answer import SUBMISSIONS, ChatStream, Format, answer, completed
from api.gateway.described import answer_headers, modelpilot_object, with_cost
from api.gateway.receive import ReceivedRequest, Submission, Translated
from api.http.bodies import parse_object, read_with, validate
from api.http.middleware import REQUEST_ID
from api.http.registry import RouteSpec
from api.http.responses import json_response
from modelpilot.requests.records import RequestRecord
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.completions_front import (
    CompletionsBody,
    TextChunks,
    chat_request_of,
    completion_of,
    merged,
    prompts_of,
)
from modelpilot.wire.identity import TEXT, names
from modelpilot.wire.jsonb import as_object


class TextCompletion(BaseModel):
    """An OpenAI `text_completion` with our `modelpilot` object beside its own fields."""

    id: str
    object: str
    choices: list[dict[str, Any]]
    modelpilot: dict[str, Any]


def routes() -> list[RouteSpec]:
    """The route of this module. Its application has `SUBMISSIONS`."""
    summary = "Complete a text: a chat request in OpenAI's old shape"
    spec = partial(RouteSpec, "POST", "/v1/completions", admitted(_create), "route", summary, "routing")
    return [spec(request=CompletionsBody, response=TextCompletion, invalid_status=400)]


async def _create(request: web.Request) -> web.StreamResponse:
    received_at = time.monotonic()
    body, asked = await read_with(request, _translated)
    echoes = [prompt if body.get("echo") else "" for prompt, _ in asked]
    received = [await translated.received(request, received_at) for _, translated in asked]
    if len(received) > 1:
        return await _answer_all(request, received, echoes)
    include_usage = bool(as_object(body.get("stream_options")).get("include_usage"))
    stream = partial(TextStream, chunks=TextChunks(echoes[0]), include_usage=include_usage)
    return await answer(
        request, received[0], Format(partial(completion_of, echo=echoes[0]), stream, partial(names, TEXT))
    )


def _translated(raw: bytes) -> tuple[dict[str, Any], list[tuple[str, Translated]]]:
    body = parse_object(raw)
    validate(body, CompletionsBody)
    return body, [(prompt, Translated.of(chat_request_of(body, prompt))) for prompt in prompts_of(body)]


async def _answer_all(
    request: web.Request, received: Sequence[ReceivedRequest], echoes: Sequence[str]
) -> web.StreamResponse:
    submissions, taken = request.app[SUBMISSIONS], list[Submission]()
    try:
        for number, each in enumerate(received):
            taken.append(await submissions.submit(_named(each, number)))
        request[TICKET].called()
        request[REQUEST_ID] = taken[0].key.request_id
        ended = await asyncio.gather(*(completed(submissions, submission) for submission in taken))
    except BaseException:
        for submission in taken:
            await submissions.abandon(submission)
        raise
    records, per_prompt = [record for record, _ in ended], received[0].checked.n or 1
    texts = [
        completion_of(completion, echo, number * per_prompt)
        for number, ((_, completion), echo) in enumerate(zip(ended, echoes, strict=True))
    ]
    headers = answer_headers(records[0], records[0].outcome)
    described = _described(records)
    own = names(TEXT, records[0].key.request_id, records[0].outcome.model)
    body = {**with_cost(merged(texts), described), **own, "modelpilot": described}
    return json_response(body, headers=headers)


def _named(received: ReceivedRequest, number: int) -> ReceivedRequest:
    """The request to one of several prompts under a name of its own, made of the client's."""
    if not number:
        return received
    key, name = received.idempotency_key, received.client_name
    return replace(received, idempotency_key=key and f"{key}:{number}", client_name=name and f"{name}:{number}")


def _described(records: Sequence[RequestRecord]) -> dict[str, Any]:
    """The first request's object with the cost of all; `requests` has that of each."""
    each = [modelpilot_object(record, record.outcome, explain=False) for record in records]
    costs = [one["costUsd"] for one in each]
    return {**each[0], "costUsd": None if None in costs else sum(costs), "requests": each}


@dataclass(slots=True)
class TextStream(ChatStream):
    """OpenAI's old stream of texts."""

    can_restart = False
    id_prefix = TEXT
    chunks: TextChunks = field(kw_only=True)

    def encode(self, chunks: list[Chunk]) -> bytes:
        """Every chunk that has text, its end, or the usage."""
        translated = [made for chunk in chunks if (made := self.chunks.take(chunk.data)) is not None]
        return ChatStream.encode(self, [Chunk(made) for made in translated])
