"""Which client serves which kind of provider."""

from typing import Self, TypeVar

from aiohttp.abc import AbstractResolver

from infra.providers.addresses import AddressRule
from infra.providers.anthropic import AnthropicClient
from infra.providers.gemini import GeminiClient, GeminiEmbedder
from infra.providers.http import ProviderHttp
from infra.providers.openai import OpenAIClient
from infra.providers.openrouter import OpenRouterClient
from modelpilot.errors import InvalidRequest
from modelpilot.requests.ports import ProviderClient

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
