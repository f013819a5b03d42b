"""Coding agents: what Claude Code 2.1 and Codex 0.171 really sent, replayed to models of each provider's format.

`make clients` runs the agents themselves. The bodies are those of a task's last step, as recorded, with long texts cut
short and without most of the tools; a task's first step is what they begin with.
"""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients.site import FORMATS, Site
from tests.support.world import Gateway, World

BODIES = Path(__file__).parents[1] / "support" / "agent_bodies"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def site(world: World, gateway: Gateway) -> Site:
    """Routers over providers that refuse what the real ones refuse."""
    site = Site(world, gateway)
    site.prepare()
    return site


async def events(site: Site, agent: str, router: str, *, steps: bool) -> list[Json]:
    """The events that answer the agent's last request, or its first one (without the `steps` that it had made)."""
    sample = json.loads((BODIES / f"{agent}.json").read_text(encoding="utf-8"))
    history = "messages" if "messages" in sample["body"] else "input"
    turns = sample["body"][history]
    made = next(n for n, turn in enumerate(turns) if turn.get("role") == "assistant" or "call_id" in turn)
    body = {**sample["body"], "model": f"router/{router}", history: turns if steps else turns[:made]}
    headers = {**sample["headers"], "authorization": f"Bearer {site.world.admin_key}"}
    url = f"{site.gateway.url}{sample['path']}"
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 200, text
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def kinds(found: list[Json]) -> list[str]:
    """What happens one after the other; repetitions once."""
    types = [event["type"] for event in found if event["type"] != "ping"]
    return [kind for kind, before in zip(types, [None, *types], strict=False) if kind != before]


@pytest.mark.parametrize("router", FORMATS)
async def test_claude_code_gets_its_first_call(site: Site, router: str) -> None:
    """In the events from which it puts the call together, whoever answers."""
    found = await events(site, "claude_code", router, steps=False)
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds(found) == ["message_start", *block, "message_delta", "message_stop"]
    started = next(event for event in found if event["type"] == "content_block_start")["content_block"]
    assert (started["type"], started["name"]) == ("tool_use", "Read")
    pieces = [event["delta"]["partial_json"] for event in found if event["type"] == "content_block_delta"]
    assert json.loads("".join(pieces)) == {"file_path": "/home/dev/project/input.txt"}
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("router", FORMATS)
async def test_claude_code_gets_its_answer(site: Site, router: str) -> None:
    """After calls that another provider's model made: its history is taken by all of them."""
    found = await events(site, "claude_code", router, steps=True)
    texts = [event["delta"]["text"] for event in found if event["type"] == "content_block_delta"]
    assert "4217" in "".join(texts)
    assert found[-2]["delta"]["stop_reason"] == "end_turn"


@pytest.mark.parametrize("router", FORMATS)
async def test_codex_gets_its_first_call(site: Site, router: str) -> None:
    """As a finished item, and in the response that ends the stream."""
    found = await events(site, "codex", router, steps=False)
    assert (found[0]["type"], found[-1]["type"]) == ("response.created", "response.completed")
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert [(item["type"], item["name"]) for item in done] == [("function_call", "exec_command")]
    assert json.loads(done[0]["arguments"]) == {"cmd": "cat input.txt"}
    assert found[-1]["response"]["output"] == done


@pytest.mark.parametrize("router", FORMATS)
async def test_codex_gets_its_answer(site: Site, router: str) -> None:
    """After calls that another provider's model made, beside a search of the web that only OpenAI has."""
    found = await events(site, "codex", router, steps=True)
    texts = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
    assert "4217" in "".join(texts)
    assert found[-1]["response"]["status"] == "completed"
