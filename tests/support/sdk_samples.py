"""Questions and tools for tests of the stock SDKs, in both formats."""

from typing import Any

import aiohttp

from tests.support.requests import put_model, put_router

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
IMAGE_URL = "https://example.org/cat.png"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
NAMES = ("get_weather", "get_time")
QUESTION = "Use get_weather and get_time for Paris"


def said(text: str) -> list[Any]:
    """One message of the user, in both formats."""
    return [{"role": "user", "content": text}]


def functions() -> list[Any]:
    """Two tools in OpenAI's format."""
    return [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in NAMES]


def tools() -> list[Any]:
    """The same in Anthropic's."""
    return [{"name": name, "input_schema": CITY} for name in NAMES]


async def put_failing(client: aiohttp.ClientSession, router_id: str, provider_model: str) -> None:
    """A router whose only model has a fault."""
    await put_model(client, f"own/{router_id}", provider_model)
    await put_router(client, router_id, [f"own/{router_id}"], fallbackStrategy={"retryAttempts": 0})
