"""Other gateways for the side-by-side: each installed into an environment of its own, never a dependency of ours, and
started on loopback before the simulator. They store nothing and route nothing."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.gateway.targets import ChatTarget
from bench.report import Progress
from infra.local.child import Child, ChildSpec
from infra.local.environment import foreign_environment
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK, free_port
from infra.local.service import NotReady, http_ok

LITELLM = "litellm[proxy]==1.102.4"
PORTKEY = {
    "private": True,
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    # From 1.14 on an answer shares the provider's headers, into which Portkey cannot write: no stream works.
    "overrides": {"@hono/node-server": "1.13.8"},
}
READY_WITHIN_S = 120.0
_ASK_AGAIN_S = 0.2
# The simulator takes any key.
_KEY = "none"
# A connection is to outlive the turns of the others; by themselves both close it after 5 s.
_KEEP_ALIVE_S = 600
# Portkey has no options for these, and would listen on every address of the machine.
_PRELOAD = f"""
const {{ Server }} = require("http");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, host, ready) {{
  this.keepAliveTimeout = {_KEEP_ALIVE_S * 1000};
  return listen.call(this, port, "{LOOPBACK}", ready);
}};
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer: its process, and where its requests go."""

    name: str
    pid: int
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def target(self, model: str) -> ChatTarget:
        """For one model of the simulator."""
        return ChatTarget(self.name, self.url, model=model, headers=self.headers)


@asynccontextmanager
async def running_peers(
    simulator_url: str, models: Iterable[str], installed: Path | None, progress: Progress
) -> AsyncIterator[list[Peer]]:
    """LiteLLM and Portkey before the simulator's `models`, stopped at the end, however it comes.

    They are installed below `installed`, where they stay for the next time, or, for None, for this time only.
    Raises StackError where one cannot be installed or started.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelpilot-bench-peers-")))
        programs = directory if installed is None else installed
        progress("installing the peers")
        litellm, portkey = await _install_litellm(programs / "litellm"), await _install_portkey(programs / "portkey")
        progress("starting the peers")
        api = f"{simulator_url}/v1"
        yield [
            await stack.enter_async_context(_litellm(litellm, directory, api, models)),
            await stack.enter_async_context(_portkey(portkey, directory, api)),
        ]


async def _install_litellm(environment: Path) -> Path:
    program = environment / "bin" / "litellm"
    if not program.exists():
        await _run(_directory(environment), sys.executable, "-m", "venv", str(environment))
        await _run(environment, str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", LITELLM)
    return program


async def _install_portkey(prefix: Path) -> Path:
    server = prefix / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not server.exists():
        _directory(prefix).joinpath("package.json").write_text(json.dumps(PORTKEY), encoding="utf-8")
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
        await _run(prefix, _found("npm"), "install", *options, "--prefix", str(prefix))
    return server


async def _run(directory: Path, *argv: str) -> None:
    # The whole environment, as for an installation by hand: it may say where packages come from.
    child = Child(ChildSpec("install", argv, directory / "install.log", dict(os.environ), cwd=directory))
    try:
        if await child.wait() != 0:
            raise StackError(f"{' '.join(argv)} ended with {child.exit_code}:\n{child.log_tail()}")
    finally:
        await child.stop()


def _directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise StackError(f"The peers need the program `{program}`, which is not on PATH.")
    return path


def litellm_config(models: Iterable[str], api: str) -> dict[str, Any]:
    """LiteLLM's file: every model of the simulator under its own name."""
    return {
        "model_list": [
            {"model_name": model, "litellm_params": {"model": f"openai/{model}", "api_base": api, "api_key": _KEY}}
            for model in models
        ]
    }


@asynccontextmanager
async def _litellm(program: Path, directory: Path, api: str, models: Iterable[str]) -> AsyncIterator[Peer]:
    config, port = directory / "litellm.yaml", free_port()
    config.write_text(yaml.safe_dump(litellm_config(models, api)), encoding="utf-8")
    spec = ChildSpec(
        name="litellm",
        argv=(
            *(str(program), "--config", str(config), "--num_workers", "1", "--telemetry", "False"),
            *("--host", LOOPBACK, "--port", str(port), "--keepalive_timeout", str(_KEEP_ALIVE_S)),
        ),
        log_path=directory / "litellm.log",
        env=foreign_environment({"LITELLM_LOCAL_MODEL_COST_MAP": "True"}),
        cwd=directory,
    )
    base = f"http://{LOOPBACK}:{port}"
    async with _running(spec, f"{base}/health/liveliness") as child:
        yield Peer("litellm", child.pid, f"{base}/v1/chat/completions")


@asynccontextmanager
async def _portkey(server: Path, directory: Path, api: str) -> AsyncIterator[Peer]:
    preload, port = directory / "preload.cjs", free_port()
    preload.write_text(_PRELOAD, encoding="utf-8")
    spec = ChildSpec(
        name="portkey",
        argv=(_found("node"), "--require", str(preload), str(server), "--headless", f"--port={port}"),
        log_path=directory / "portkey.log",
        env=foreign_environment(),
        cwd=directory,
    )
    base = f"http://{LOOPBACK}:{port}"
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": api,
        # A stream without it fails.
        "authorization": f"Bearer {_KEY}",
    }
    async with _running(spec, f"{base}/") as child:
        yield Peer("portkey", child.pid, f"{base}/v1/chat/completions", headers)


@asynccontextmanager
async def _running(spec: ChildSpec, ready_url: str) -> AsyncIterator[Child]:
    child = Child(spec)
    try:
        await _until_ready(child, ready_url)
        yield child
    finally:
        await child.stop()


async def _until_ready(child: Child, url: str) -> None:
    probe = http_ok(url)
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while child.exit_code is None:
                try:
                    return await probe()
                except (OSError, NotReady):
                    await asyncio.sleep(_ASK_AGAIN_S)
    except TimeoutError:
        raise StackError(
            f"{child.spec.name} was not ready within {READY_WITHIN_S:.0f} s:\n{child.log_tail()}"
        ) from None
    raise StackError(f"{child.spec.name} ended with {child.exit_code}:\n{child.log_tail()}")
