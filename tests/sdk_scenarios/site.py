"""What every scenario needs: where the gateways are, questions, tools, and a way to say which refusal is expected.

The scenarios run in an environment with nothing but the SDKs, so that they can be run with any major of them.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

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
IMAGE_TOKENS = 85  # what the simulator counts for an image
PATIENCE_S = 30.0

E = TypeVar("E", bound=Exception)


@dataclass(frozen=True)
class Site:
    """`busy_url` is a gateway that takes one request at a time and bodies up to 1 MB; `limits_url` answers every
    request with a 429 that says how often it was asked. `limited_key` may use the router `demo` only.

    Routers: `demo`; `sdk-503`, `sdk-429`, `sdk-400`, `sdk-404`, `sdk-filter`, `sdk-context`, `sdk-hang` and `sdk-cut`
    have only a model with that fault; `sdk-slow` takes its time; `sdk-claude` is served by a provider that speaks
    Anthropic's format.
    """

    url: str
    busy_url: str
    limits_url: str
    admin_key: str
    limited_key: str


def said(text: str) -> list[Any]:
    """One message of the user, in both formats."""
    return [{"role": "user", "content": text}]


def functions() -> list[Any]:
    """Two tools in OpenAI's format, strict as the SDK's own stream helper wants them."""
    return [{"type": "function", "function": {"name": name, "parameters": CITY, "strict": True}} for name in NAMES]


def tools() -> list[Any]:
    """The same in Anthropic's."""
    return [{"name": name, "input_schema": CITY} for name in NAMES]


def fresh_name() -> str:
    """A name that no request had before."""
    return f"sdk-{secrets.token_hex(8)}"


async def refusal(kind: type[E], asking: Awaitable[object], status: int | None = None) -> E:
    """The error that `asking` must end with, of this kind (newer majors have subclasses) and this HTTP status."""
    caught: E | None = None
    try:
        await asking
    except kind as error:
        caught = error
    assert caught is not None, f"no {kind.__name__} was raised"
    assert status is None or getattr(caught, "status_code", None) == status, caught
    return caught


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll until `condition` holds; raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)
