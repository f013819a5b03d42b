"""Which feature of which client arrives at which provider: measured over real HTTP, and said so in the documentation.

`MODELPILOT_WRITE_CONFORMANCE=1` writes what was measured into docs/compatibility.md; else each row is held against it.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.conformance import ASKED, PROMPT, Feature, Json, text
from tests.support.conformance_answers import ANSWERED
from tests.support.world import Gateway, World

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN, END = "<!-- conformance -->", "<!-- end of conformance -->"
FRONTS = ("chat", "messages")
# Name, kind of the provider, its own name of the model: what its manners are known by.
BEHIND = {
    "OpenAI": ("openai", "gpt-4.1"),
    "Anthropic": ("anthropic", "claude-sonnet-4-5"),
    "Gemini": ("google", "gemini-2.5-pro"),
    "OpenRouter": ("openrouter", "meta-llama/llama-4-maverick"),
    "compatible": ("openai", "some-model"),
}
WIRES = {"openai": "openai", "openrouter": "openai", "anthropic": "anthropic", "google": "google"}
NOT_SAID, NOT_ANSWERED = "cannot be said", "is never answered"
_CELL = re.compile(r"cell (\d+)\.")


class Provider:
    """A provider in every wire format: it keeps what it was sent, by the number of the cell in the prompt, and answers
    what that cell wants, or plain text."""

    def __init__(self) -> None:
        self.sent: dict[int, str] = {}
        self.answers: dict[int, list[Json]] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Any route of theirs."""
        body = (await request.read()).decode()
        found = _CELL.search(body)
        assert found is not None, body
        cell, path = int(found[1]), request.path
        self.sent[cell] = body
        wire = "anthropic" if path.endswith("/messages") else "google" if "/models/" in path else "openai"
        plain = next(feature for feature in ANSWERED if feature.name == "text").answers[wire]
        whole = not json.loads(body).get("stream", ":stream" in path)
        events = self.answers.get(cell, plain)
        if '"candidateCount"' in body:
            events = [
                {**event, "candidates": [{**event["candidates"][0], "index": n} for n in (0, 1)]} for event in events
            ]
        if whole and wire == "openai":
            message = {"role": "assistant", "content": "mark-text"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({**events[0], "object": "chat.completion", "choices": [choice]})
        lines = [f"event: {event['type']}\n" if "type" in event else "" for event in events]
        written = "".join(f"{line}data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True))
        done = "data: [DONE]\n\n" if wire == "openai" else ""
        return web.Response(text=written + done, content_type="text/event-stream")


@asynccontextmanager
async def _provider() -> AsyncIterator[tuple[Provider, str]]:
    provider, app = Provider(), web.Application(client_max_size=2**26)
    app.router.add_post("/{tail:.*}", provider.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield provider, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _put(client: aiohttp.ClientSession, path: str, body: Json) -> None:
    async with client.put(path, json=body) as answer:
        assert answer.status in (200, 201), await answer.text()


async def _configure(client: aiohttp.ClientSession, url: str) -> None:
    capabilities = ["chat", "functions", "vision", "json", "streaming", "reasoning", "audio", "analysis"]
    for name, (kind, model) in BEHIND.items():
        base = url if kind in ("anthropic", "google") else f"{url}/v1"
        await _put(
            client, f"/api/providers/conf-{name.lower()}", {"kind": kind, "baseUrl": base, "apiKey": "sk-0123456789"}
        )
        prices = {"costPerInputToken": 1e-6, "costPerOutputToken": 2e-6}
        limits = {"maxTokens": 64_000, "contextWindow": 1_000_000}
        about = {"provider": f"conf-{name.lower()}", "providerModel": model, "capabilities": capabilities}
        await _put(client, f"/api/models/conf/{name.lower()}", {**about, **prices, "limits": limits})


class Cells:
    """Measures cells: one request each."""

    def __init__(self, client: aiohttp.ClientSession, provider: Provider) -> None:
        self._client, self._provider, self._count = client, provider, 0
        self._at_once = asyncio.Semaphore(8)

    async def measure(self, feature: Feature, front: str, behind: str) -> str:
        """passed, adjusted, excluded, or why there is nothing to measure. Anything else is told as it is."""
        kind, _ = BEHIND[behind]
        self._count += 1
        cell, wire = self._count, WIRES[kind]
        body = getattr(feature, front) if feature in ASKED else _question(wire, feature, front)
        if body is None:
            return NOT_SAID if feature in ASKED else NOT_ANSWERED
        if feature.answers:
            self._provider.answers[cell] = feature.answers[wire]
        async with self._at_once:
            status, answer = await self._ask(front, behind, _numbered(body, cell))
        if status == 422:
            return "excluded"
        if status != 200:
            return f"{status}: {json.dumps(answer)[:300]}"
        if answer["modelpilot"].get("adjusted"):
            return "adjusted"
        place = (
            _compact(answer) if feature in ANSWERED else self._provider.sent[cell].replace(": ", ":").replace(", ", ",")
        )
        return "passed" if _mark(feature, wire, front) in place else f"lost: {place[:600]}"

    async def _ask(self, front: str, behind: str, body: Json) -> tuple[int, Json]:
        model = {"model": f"conf/{behind.lower()}"}
        path = "/v1/chat/completions" if front == "chat" else "/v1/messages"
        limit = {"max_tokens": 1_000} if front == "messages" else {}
        async with self._client.post(path, json={**limit, **model, **body}) as answer:
            return answer.status, await answer.json()


def _question(wire: str, feature: Feature, front: str) -> Json | None:
    said = isinstance(feature.mark, str) or front in feature.mark
    asked = getattr(feature, front) or {"messages": [{"role": "user", "content": [text(PROMPT)]}]}
    return asked if said and wire in feature.answers else None


def _numbered(body: Json, cell: int) -> Json:
    numbered: Json = json.loads(json.dumps(body).replace(PROMPT, f"{PROMPT} of cell {cell}."))
    return numbered


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _mark(feature: Feature, wire: str, front: str) -> str:
    if isinstance(feature.mark, str):
        return feature.mark
    return feature.mark.get(front if feature in ANSWERED else wire, "never sent")


Table = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def measured(world: World, gateway: Gateway) -> Table:
    """Every cell, by feature and column."""
    places = [(feature, front, name) for feature in (*ASKED, *ANSWERED) for front in FRONTS for name in BEHIND]

    async def all_cells() -> list[str]:
        async with world.client(gateway) as client, _provider() as (provider, url):
            await _configure(client, url)
            cells = Cells(client, provider)
            return await asyncio.gather(*(cells.measure(*place) for place in places))

    found = asyncio.run(all_cells())
    table: dict[str, dict[str, str]] = {}
    for (feature, front, name), result in zip(places, found, strict=True):
        table.setdefault(_row(feature), {})[f"{front} → {name}"] = result
    if os.environ.get("MODELPILOT_WRITE_CONFORMANCE"):
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{_written(table)}{END}{rest.partition(END)[2]}")
    return table


def _row(feature: Feature) -> str:
    return f"{'asks' if feature in ASKED else 'gets'}: {feature.name}"


def _written(table: Table) -> str:
    columns = [f"{front} → {name}" for front in FRONTS for name in BEHIND]
    lines = [f"| feature | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(cells[column] for column in columns)} |" for row, cells in table.items()]
    return "\n".join(lines) + "\n"


def _documented() -> Table:
    text = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines())
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


@pytest.mark.parametrize("row", [_row(feature) for feature in (*ASKED, *ANSWERED)])
def test_a_feature_arrives_as_the_documentation_says(measured: Table, row: str) -> None:
    """Each cell was measured just now, none is empty, and none is a failure that nobody explains."""
    allowed = {"passed", "adjusted", "excluded", NOT_SAID, NOT_ANSWERED}
    assert {column: cell for column, cell in measured[row].items() if cell not in allowed} == {}
    assert measured[row] == _documented()[row]
