"""Anthropic's Messages API."""

import time

from infra.providers.client import ChatClient
from infra.providers.http import UpstreamRequest
from modelpilot.requests.ports import ProviderCall
from modelpilot.wire.anthropic import messages_request
from modelpilot.wire.anthropic_stream import AnthropicDecoder
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.kinds import join_url, unsupported_fields, versioned_url

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
