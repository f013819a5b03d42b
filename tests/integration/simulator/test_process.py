"""The simulator as a process: starting, stopping, and the examples of its documentation."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from typing import Any

import aiohttp
import pytest

from simulator.faults import FAULTS
from simulator.models import MODELS
from simulator.server import running
from simulator.state import SimulatorConfig

pytestmark = pytest.mark.asyncio

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "simulator.md").read_text()
START = "import typer; from cli.simulator import command; typer.run(command)"
ASK = {"messages": [{"role": "user", "content": "What is 12 * 7?"}]}


@asynccontextmanager
async def _process(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-c", START, *options)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
async def test_stops_cleanly(name: signal.Signals) -> None:
    """A signal ends the process with status 0, even while a call hangs."""
    async with _process("--port", "0", "--latency-ms", "0", "--tokens", "7") as process, asyncio.timeout(30):
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().split()[-1]
        async with aiohttp.ClientSession(url) as http:
            async with http.post("/v1/chat/completions", json={"model": "small", **ASK}) as answer:
                assert (await answer.json())["usage"]["completion_tokens"] == 7
            hanging = asyncio.create_task(
                http.post("/v1/chat/completions", json={"model": "small+hang", **ASK}).__aenter__()
            )
            async with http.get("/_sim/calls", params={"wait_ms": "5000", "outcome": "running"}):
                process.send_signal(name)
            assert await process.wait() == 0
            with pytest.raises(aiohttp.ClientError):
                await hanging


async def test_a_taken_port_is_said() -> None:
    """The command fails with a message, not with a trace."""
    async with running(SimulatorConfig()) as url, _process("--port", url.rsplit(":", 1)[-1]) as process:
        _, err = await process.communicate()
        assert process.returncode == 1
        assert b"cannot listen on 127.0.0.1" in err
        assert b"Traceback" not in err


async def test_every_fault_and_model_is_documented() -> None:
    """A new fault or model fails the build until it is in the documentation, as the tables say it."""
    rows = [line for line in DOC.splitlines() if line.startswith("|")]
    for spec in FAULTS.values():
        assert any(row.startswith(f"| `{spec.name}` ") and spec.does in row for row in rows), spec.name
    for model in MODELS.values():
        numbers = (model.ttft_ms, model.tokens_per_second, model.quality, model.carbon_g_per_1k_tokens)
        row = next(row for row in rows if row.startswith(f"| `{model.name}` "))
        cells = [cell.strip() for cell in row.split("|")]
        shown = (f"{model.input_usd * 1e6:g} / {model.output_usd * 1e6:g}", f"{model.context_window:,}")
        assert [cell for cell in (*(f"{number:g}" for number in numbers), *shown) if cell not in cells] == []


EXAMPLES = re.findall(r"^\| `(\S+)` \| `([\d ]+)` \|", DOC, re.MULTILINE)


@pytest.mark.parametrize(("model", "statuses"), EXAMPLES)
async def test_example_statuses_are_true(model: str, statuses: str) -> None:
    """The documented first answers are what a client gets."""
    async with running(SimulatorConfig(latency_ms=0)) as url, aiohttp.ClientSession(url) as http:
        for status in statuses.split():
            async with http.post("/v1/chat/completions", json={"model": model, **ASK}) as answer:
                assert answer.status == int(status)


@pytest.mark.skipif(which("curl") is None, reason="the examples use curl")
async def test_curl_examples_are_true() -> None:
    """Every documented command works, and prints what the block after it says."""
    examples = re.findall(r"```sh\n(curl .*?)```\n+(?:```text\n(.*?)```)?", DOC, re.DOTALL)
    assert len(examples) >= 4
    async with running(SimulatorConfig(latency_ms=0)) as url:
        for command, expected in examples:
            shell = await asyncio.create_subprocess_shell(
                command.replace("http://127.0.0.1:9090", url), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await shell.communicate()
            assert shell.returncode == 0, command
            assert [line for line in expected.splitlines() if line not in out.decode()] == [], command


def table(*head: str) -> list[list[str]]:
    """The cells of the rows of all documented tables with this head."""
    first = re.escape(f"| {' | '.join(head)} |")
    tables = re.findall(rf"^{first}\n\| ---.*\n((?:\|.*\n)+)", DOC, re.MULTILINE)
    rows = [line for found in tables for line in found.splitlines()]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def code(cell: str) -> str:
    """What stands between a cell's backticks."""
    return cell.strip("` ") if "⏎" not in cell else "\n".join(code(line) for line in cell.split(" ⏎ "))


def _tool(name: str, *required: str, **properties: str) -> dict[str, Any]:
    typed = {key: {"type": kind} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": typed, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    _tool("get_weather", "city", city="string"),
    _tool("add", "a", "b", a="integer", b="integer"),
    _tool("read_file", "file_path", file_path="string", limit="integer"),
    _tool("write_file", "file_path", "content", file_path="string", content="string"),
    _tool("bash", "command", command="string"),
]


async def _message(url: str, turns: list[Any], **fields: Any) -> dict[str, Any]:
    body = {"model": "large", "messages": turns, **fields}
    async with aiohttp.ClientSession(url) as http, http.post("/v1/chat/completions", json=body) as answer:
        found: dict[str, Any] = (await answer.json())["choices"][0]["message"]
        return found


async def test_documented_calls_are_made() -> None:
    """Each task of the tables gets its calls, turn by turn, and then text."""
    rows = table("task", "calls")
    assert len(rows) >= 8
    async with running(SimulatorConfig(latency_ms=0)) as url:
        for task, expected in rows:
            turns: list[Any] = [{"role": "user", "content": code(task)}]
            made = []
            while calls := (message := await _message(url, turns, tools=TOOLS)).get("tool_calls"):
                made.append(" & ".join(f"{call['function']['name']} {call['function']['arguments']}" for call in calls))
                turns += [message, *({"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in calls)]
            assert made == [code(cell) for cell in expected.split(" → ") if cell != "`none`"], task


async def test_documented_answers_are_given() -> None:
    """What was said before, instructions and JSON in prose: the answers of the tables, to the letter."""
    rows = [("user", *row) for row in table("the user said before", "task", "answer")]
    rows += [("system", *row) for row in table("system prompt", "task", "answer")]
    rows += [("", "", *row) for row in table("task", "answer")]
    assert len(rows) >= 17
    async with running(SimulatorConfig(latency_ms=0)) as url:
        for role, before, task, expected in rows:
            turns: list[Any] = [{"role": role, "content": code(before)}] if role else []
            turns += [await _message(url, turns)] if role == "user" else []
            message = await _message(url, [*turns, {"role": "user", "content": code(task)}])
            assert message["content"] == code(expected), task


async def test_documented_refusals_are_made() -> None:
    """Each request of the table is refused with these words."""
    rows = table("a request with", "is refused with")
    assert len(rows) >= 5
    async with running(SimulatorConfig(latency_ms=0)) as url, aiohttp.ClientSession(url) as http:
        for change, said in rows:
            body = {"model": "small", **ASK, **json.loads(code(change))}
            async with http.post("/v1/chat/completions", json=body) as answer:
                assert (answer.status, code(said) in (await answer.json())["error"]["message"]) == (400, True), change
