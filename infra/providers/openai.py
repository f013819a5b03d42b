"""OpenAI, and every server that speaks its format (Azure, Mistral, Groq, vLLM, Ollama, the simulator)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from infra.providers.client import ChatClient
from infra.providers.http import ProviderHttp, UpstreamRequest
from modelpilot.requests.ports import ProviderCall
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.failures import malformed
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.kinds import join_url
from modelpilot.wire.openai import OpenAIDecoder, chat_request
from modelpilot.wire.support import choice_count

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
