"""Calls of providers of every kind: a request goes out in the kind's wire format, and the answer is read to its end."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Self, TypeVar

from aiohttp.abc import AbstractResolver

from infra.providers.addresses import AddressRule
from infra.providers.http import Patience, ProviderHttp, UpstreamRequest
from infra.providers.proxies import ProxyRule
from modelpilot.errors import InvalidRequest
from modelpilot.providers.kinds import KINDS
from modelpilot.requests.outcome import ProviderError
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire import openai
from modelpilot.wire.chunks import Chunk
from modelpilot.wire.failures import malformed
from modelpilot.wire.formats import WireFormat
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.reader import AnswerReader

C = TypeVar("C")
# So much at once says that more is waiting already.
_LARGE_READ_BYTES = 16 * 1024


class ChatClient:
    """Implements `ProviderClient` for one wire format. It never retries."""

    def __init__(self, http: ProviderHttp, wire: WireFormat) -> None:
        self._http = http
        self._wire = wire

    async def stream_chat(self, call: ProviderCall) -> AsyncGenerator[list[Chunk], None]:
        """Yield the OpenAI chunks of each read, and end only when the answer is whole. Raises ProviderError.

        Closing the generator cancels the call at the provider.
        """
        wire, endpoint = self._wire, call.endpoint
        request = UpstreamRequest(
            url=wire.chat_url(endpoint.base_url, call.model, call.whole),
            headers=wire.headers(endpoint.base_url, endpoint.api_key, call.request_id, call.body),
            body=wire.chat_request(call.body, call.model, call.whole, call.manners),
            secret=endpoint.api_key,
        )
        patience = Patience(call.first_token_ms, call.idle_ms, call.connect_ms)
        reader = AnswerReader(wire.decoder(call.body, call.request_id, int(time.time())))
        async with self._http.answer(request, patience) as answer:
            piece = b""
            while not answer.whole:
                if call.gather_ms and reader.begun and not reader.complete and len(piece) < _LARGE_READ_BYTES:
                    await answer.gather(call.gather_ms)
                try:
                    piece = await patience.read(answer.content)
                except ProviderError as error:
                    chunks = reader.break_off(error)
                else:
                    chunks = _chunks_of(piece, reader, patience)
                if chunks:
                    yield chunks
                if reader.failure is not None:
                    raise reader.failure
                answer.whole = reader.ended


class OpenAIEmbedder:
    """Implements `EmbeddingClient` for providers that take OpenAI-shaped requests at the URL that `url_of` makes."""

    def __init__(self, http: ProviderHttp, url_of: Callable[[str], str]) -> None:
        self._http = http
        self._url_of = url_of

    async def embed(
        self, endpoint: ProviderEndpoint, model: str, body: JsonObject, timeout_ms: int = 30_000
    ) -> dict[str, Any]:
        """The embeddings that answer the client's OpenAI-shaped `body`. Raises ProviderError."""
        request = UpstreamRequest(
            url=self._url_of(endpoint.base_url),
            headers=openai.credentials(endpoint.base_url, endpoint.api_key),
            body={**body, "model": model},
            secret=endpoint.api_key,
        )
        answer = await self._http.json(request, timeout_ms)
        if not isinstance(answer.get("data"), list):
            raise malformed("the provider's answer holds no embeddings")
        return answer


def _chunks_of(piece: bytes, reader: AnswerReader, patience: Patience) -> list[Chunk]:
    """What these bytes hold (none: the end), and how long to wait for more."""
    chunks = reader.feed(piece) if piece else reader.finish()
    if reader.counted and reader.settled:
        patience.hurry()
    elif reader.progressed and reader.begun:
        patience.heard()
    return chunks


class ProviderRegistry:
    """All clients over one shared session; implements `ProviderClients` and `EmbeddingClients`. Close it at the end."""

    def __init__(
        self, rule: AddressRule, resolver: AbstractResolver | None = None, proxies: ProxyRule | None = None
    ) -> None:
        self._http = ProviderHttp(rule, resolver, proxies)
        self._clients: Mapping[str, ChatClient] = {
            kind: ChatClient(self._http, facts.wire) for kind, facts in KINDS.items()
        }
        self._embedders: Mapping[str, OpenAIEmbedder] = {
            kind: OpenAIEmbedder(self._http, facts.embeddings_url)
            for kind, facts in KINDS.items()
            if facts.embeddings_url is not None
        }

    def client_for(self, kind: str) -> ChatClient:
        """The client for a kind of provider. Raises InvalidRequest for a kind that has none."""
        return _found(self._clients, kind)

    def embedder_for(self, kind: str) -> OpenAIEmbedder:
        """The client whose `embed` serves a kind of provider. Raises InvalidRequest for a kind that has none."""
        return _found(self._embedders, kind)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _found(clients: Mapping[str, C], kind: str) -> C:
    try:
        return clients[kind]
    except KeyError:
        raise InvalidRequest(f"no client for providers of kind {kind!r}", param="kind") from None
