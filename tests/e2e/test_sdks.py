"""The stock SDKs together with what only this process can see: connections that break, and stored rows."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anthropic
import openai
import pytest

from tests.sdk_scenarios.site import said
from tests.support.client_relay import client_relay
from tests.support.requests import put_model, put_router
from tests.support.world import Gateway, World, eventually


@pytest.fixture
async def claude(world: World, gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's SDK without retries."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=world.admin_key, max_retries=0) as sdk:
        yield sdk


async def test_openai_retries_join_the_running_request(world: World, client: aiohttp.ClientSession) -> None:
    """The connection breaks unnoticed by us while the provider works: the SDK's own retry gets the same request's
    answer, and the provider is called once."""
    await put_model(client, "own/sdk-slow", "small+latency3000")
    await put_router(client, "sdk-slow", ["own/sdk-slow"])
    with world.gateway() as running:
        async with (
            client_relay(running.url) as relay,
            openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key=world.admin_key) as sdk,
        ):
            asking = asyncio.create_task(
                sdk.chat.completions.create(model="router/sdk-slow", messages=said("slow sdk retry"))
            )

            async def called() -> bool:
                return bool((await world.provider_calls("slow sdk retry"))["total"])

            await eventually(called, "the provider was not called")
            relay.lose_clients()
            answer = await asking
            assert answer.choices[0].message.content
            assert relay.connections > 1
    assert (await world.provider_calls("slow sdk retry"))["total"] == 1


async def test_anthropic_request_is_recorded_like_any_other(
    client: aiohttp.ClientSession, claude: anthropic.AsyncAnthropic
) -> None:
    """The same row: `GET /v1/requests/{id}` has the answer in OpenAI's shape."""
    answer = await claude.messages.create(model="sim/small", max_tokens=200, messages=said("Name a river"))
    request_id = (answer.model_extra or {})["modelpilot"]["requestId"]

    async def stored() -> Any:
        async with client.get(f"/v1/requests/{request_id}") as response:
            view = await response.json()
            return view if view.get("status") == "completed" else None

    view = await eventually(stored, "the row did not appear")
    assert view["answer"]["choices"][0]["message"]["content"] == answer.content[0].text  # type: ignore[union-attr]
