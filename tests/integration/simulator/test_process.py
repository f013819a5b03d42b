"""The simulator as a process: starting, stopping, and the examples of its documentation."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which

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
