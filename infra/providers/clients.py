"""Which client serves which kind of provider."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver

from infra.providers.addresses import AddressRule
from infra.providers.http import Answer, Patience, ProviderHttp, UpstreamRequest
from modelpilot.errors import InvalidRequest
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.requests.ports import ProviderCall, ProviderClient
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.failures import malformed
from modelpilot.wire.gemini import GeminiDecoder, generate_request, model_path
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.kinds import join_url, unsupported_fields, versioned_url
from modelpilot.wire.openai import OpenAIDecoder, chat_request
from modelpilot.wire.reader import AnswerReader, StreamDecoder
from modelpilot.wire.support import choice_count

# What all provider clients share: one HTTP call, read as OpenAI chunks until the answer is whole.


class ChatClient(ABC):
    """A `ProviderClient`; a subclass says what to send and how to read what comes back. It never retries."""

    def __init__(self, http: ProviderHttp) -> None:
        self._http = http

    @abstractmethod
    def upstream(self, call: ProviderCall) -> UpstreamRequest:
        """The request that `call` becomes."""

    @abstractmethod
    def decoder(self, call: ProviderCall) -> StreamDecoder:
        """A fresh decoder for the answer to `call`."""

    def unsupported(self, body: JsonObject) -> list[str]:
        """The fields of `body` that this provider cannot honour."""
        del body
        return []

    async def stream_chat(self, call: ProviderCall) -> AsyncGenerator[JsonObject, None]:
        """Yield OpenAI chunks, usage included, and end only when the answer is complete. Raises ProviderError.

        Closing the generator cancels the call at the provider.
        """
        if fields := self.unsupported(call.body):
            message = f"this provider cannot honour: {', '.join(fields)}"
            raise ProviderError("bad_request", message, Remedy.FALL_BACK)
        patience = Patience(call.first_token_ms, call.idle_ms, call.connect_ms)
        reader = AnswerReader(self.decoder(call))
        async with self._http.answer(self.upstream(call), patience) as answer:
            while not answer.whole:
                for chunk in await _next_chunks(answer, reader, patience):
                    yield chunk


async def _next_chunks(answer: Answer, reader: AnswerReader, patience: Patience) -> list[JsonObject]:
    """What the next bytes hold; `answer.whole` is set when nothing more is needed."""
    try:
        piece = await answer.read(patience)
    except ProviderError:
        if not reader.complete:
            raise
        # The answer is whole: silence or a reset behind it costs the usage at most.
        answer.whole = True
        return []
    chunks = reader.feed(piece) if piece else reader.finish()
    answer.whole = reader.ended or not piece
    if reader.complete:
        patience.hurry()
    elif reader.begun and reader.progressed:
        patience.heard()
    return chunks


# OpenAI, and every server that speaks its format (Azure, Mistral, Groq, vLLM, Ollama, the simulator).

_AZURE_SUFFIXES = (".azure.com", ".azure.us", ".azure.cn")  # public, US government, China


class OpenAIClient(ChatClient):
    """Chat and embeddings in OpenAI's wire format. `headers` are added to every call."""

    def __init__(self, http: ProviderHttp, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(http)
        self._headers = dict(headers or {})

    def upstream(self, call: ProviderCall) -> UpstreamRequest:
        """`POST {base}/chat/completions`."""
        body = chat_request(call.body, call.model)
        return self._request(call.endpoint, "chat/completions", body, {"X-Client-Request-Id": call.request_id})

    def decoder(self, call: ProviderCall) -> OpenAIDecoder:
        """A decoder that waits for as many choices as were asked for."""
        return OpenAIDecoder(choice_count(call.body))

    async def embed(
        self, endpoint: ProviderEndpoint, model: str, body: JsonObject, timeout_ms: int = 30_000
    ) -> dict[str, Any]:
        """`POST {base}/embeddings`: the answer to the client's OpenAI-shaped `body`. Raises ProviderError."""
        request = self._request(endpoint, "embeddings", {**body, "model": model}, {})
        answer = await self._http.json(request, timeout_ms)
        if not isinstance(answer.get("data"), list):
            raise malformed("the provider's answer holds no embeddings")
        return answer

    def _request(
        self, endpoint: ProviderEndpoint, path: str, body: JsonObject, headers: Mapping[str, str]
    ) -> UpstreamRequest:
        return UpstreamRequest(
            url=join_url(endpoint.base_url, path),
            headers={**self._headers, **_credentials(endpoint), **headers},
            body=body,
            secret=endpoint.api_key,
        )


def _credentials(endpoint: ProviderEndpoint) -> Mapping[str, str]:
    if not endpoint.api_key:
        return {}
    # Azure takes its keys in a header of its own; a bearer token there would be an Entra token.
    if (urlsplit(endpoint.base_url).hostname or "").rstrip(".").endswith(_AZURE_SUFFIXES):
        return {"api-key": endpoint.api_key}
    return {"Authorization": f"Bearer {endpoint.api_key}"}


# Anthropic's Messages API.

_API_VERSION = "2023-06-01"


class AnthropicClient(ChatClient):
    """Chat through `POST {base}/messages`."""

    def upstream(self, call: ProviderCall) -> UpstreamRequest:
        """The Messages request."""
        key = call.endpoint.api_key
        return UpstreamRequest(
            url=join_url(versioned_url(call.endpoint.base_url, "v1"), "messages"),
            headers={"anthropic-version": _API_VERSION, **({"x-api-key": key} if key else {})},
            body=messages_request(call.body, call.model),
            secret=key,
        )

    def decoder(self, call: ProviderCall) -> AnthropicDecoder:
        """A decoder of Messages events."""
        del call
        return AnthropicDecoder(created=int(time.time()))

    def unsupported(self, body: JsonObject) -> list[str]:
        """What Anthropic cannot honour."""
        return unsupported_fields("anthropic", body)


# Google's Gemini API.


class GeminiClient(ChatClient):
    """Chat through `POST {base}/models/{model}:streamGenerateContent`."""

    def upstream(self, call: ProviderCall) -> UpstreamRequest:
        """The streamGenerateContent request. The key goes into a header: URLs end up in logs."""
        key = call.endpoint.api_key
        base = versioned_url(call.endpoint.base_url, "v1beta")
        return UpstreamRequest(
            url=join_url(base, f"{model_path(call.model)}:streamGenerateContent", "alt=sse"),
            headers={"x-goog-api-key": key} if key else {},
            body=generate_request(call.body, call.model),
            secret=key,
        )

    def decoder(self, call: ProviderCall) -> GeminiDecoder:
        """A decoder of streamed responses."""
        return GeminiDecoder(int(time.time()), call.request_id, choice_count(call.body))

    def unsupported(self, body: JsonObject) -> list[str]:
        """What Gemini cannot honour."""
        return unsupported_fields("google", body)


class GeminiEmbedder(OpenAIClient):
    """Embeddings through the OpenAI-compatible face of the same API."""

    async def embed(
        self, endpoint: ProviderEndpoint, model: str, body: JsonObject, timeout_ms: int = 30_000
    ) -> dict[str, Any]:
        """`POST {base}/openai/embeddings`, with the key as a bearer token. Raises ProviderError."""
        base_url = join_url(versioned_url(endpoint.base_url, "v1beta"), "openai")
        return await super().embed(replace(endpoint, base_url=base_url), model, body, timeout_ms)


# OpenRouter: OpenAI's format; its own fields (`provider` preferences, `models`, `transforms`) pass through.


class OpenRouterClient(OpenAIClient):
    """Adds the attribution headers by which OpenRouter lists applications; both are optional."""

    def __init__(self, http: ProviderHttp, *, site_url: str | None = None, site_name: str | None = None) -> None:
        attribution = {"HTTP-Referer": site_url, "X-Title": site_name}
        super().__init__(http, {name: value for name, value in attribution.items() if value})


C = TypeVar("C")


class ProviderRegistry:
    """All clients over one shared session; implements `ProviderClients`. Close it at the end.

    `site_url` and `site_name` are shown to OpenRouter only.
    """

    def __init__(
        self,
        rule: AddressRule,
        resolver: AbstractResolver | None = None,
        *,
        site_url: str | None = None,
        site_name: str | None = None,
    ) -> None:
        self._http = ProviderHttp(rule, resolver)
        openai = OpenAIClient(self._http)
        self._embedders = {"google": GeminiEmbedder(self._http), "openai": openai, "simulator": openai}
        self._clients: dict[str, ProviderClient] = {
            "anthropic": AnthropicClient(self._http),
            "google": GeminiClient(self._http),
            "openai": openai,
            "openrouter": OpenRouterClient(self._http, site_url=site_url, site_name=site_name),
            "simulator": openai,
        }

    def client_for(self, kind: str) -> ProviderClient:
        """The client for a kind of provider. Raises InvalidRequest for a kind that has none."""
        return _found(self._clients, kind)

    def embedder_for(self, kind: str) -> OpenAIClient:
        """The client whose `embed` serves a kind of provider. Raises InvalidRequest for a kind that has none."""
        return _found(self._embedders, kind)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _found(clients: dict[str, C], kind: str) -> C:
    try:
        return clients[kind]
    except KeyError:
        raise InvalidRequest(f"no client for providers of kind {kind!r}", param="kind") from None
