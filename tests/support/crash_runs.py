"""Requests whose gateway or closer dies, and what has to be true of them afterwards."""

import asyncio
from functools import partial
from typing import Any

import aiohttp

from tests.support.requests import ask, chat, ended, put_model, put_router
from tests.support.world import World, closed, eventually

PATIENCE_S = 120.0


async def crash_router(client: aiohttp.ClientSession, name: str, model: str, *, falls_back: bool = False) -> str:
    """A router of one model, with or without a fallback."""
    await put_model(client, name, model)
    strategy = {"fallbackModels": ["sim/small"] if falls_back else [], "retryAttempts": 2 if falls_back else 0}
    await put_router(client, name, [name], fallbackStrategy=strategy)
    return name


def crash_tag(role: str, point: str) -> str:
    """What names a request. Calls are counted by what is in their prompt, so no tag is the beginning of another one."""
    return f"{role} dies {point} once".replace(" ", "-").replace(",", "")


async def ask_in_vain(client: aiohttp.ClientSession, router: str, tag: str) -> None:
    """A request whose answer may never come: its gateway may die."""
    with_name = ask(client, router, chat(tag), x_request_id=tag)
    await asyncio.gather(with_name, return_exceptions=True)


async def is_whole(world: World, client: aiohttp.ClientSession, tag: str, calls: set[int]) -> dict[str, Any]:
    """One terminal row, one closed workflow, and as many provider calls as there may be."""
    view: dict[str, Any] = await eventually(partial(ended, client, tag), "the request was lost", PATIENCE_S)
    await eventually(partial(closed, world, tag), "no closed workflow", PATIENCE_S)
    assert (await world.provider_calls(tag))["total"] in calls
    assert (await world.provider_calls(tag))["maxConcurrent"] <= 1
    assert view["status"] == "completed"
    return view


async def called(world: World, tag: str) -> bool:
    """Whether a provider was asked."""
    return bool((await world.provider_calls(tag))["total"])
