"""Google's Gemini API."""

import time
from dataclasses import replace
from typing import Any

from infra.providers.client import ChatClient
from infra.providers.http import UpstreamRequest
from infra.providers.openai import OpenAIClient
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.gemini import GeminiDecoder, generate_request, model_path
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.kinds import join_url, unsupported_fields, versioned_url
from modelpilot.wire.support import choice_count


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
