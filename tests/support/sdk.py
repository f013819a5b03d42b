"""An interpreter with the SDKs' previous majors: an environment of its own, made once and kept in pytest's cache."""

import fcntl
import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.http.registry import RouteSpec, add_routes
from api.routes.messages import anthropic_envelope
from modelpilot.errors import RateLimited
from tests.sdk_scenarios.site import Site
from tests.support.management_fakes import FakeStores
from tests.support.requests import put_model, put_router
from tests.support.world import Gateway, World

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "tests" / "sdk_previous" / "requirements.lock"
INSTALL_TIMEOUT_S = 240.0


def previous_sdks(cache: Path) -> Path:
    """The interpreter of the environment below `cache` that has what the lock says; made where it is missing.

    Raises AssertionError with pip's own words where it cannot be installed: no registry is a failure, not a skip.
    """
    name = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    environment, done = cache / name, cache / f"{name}.done"
    python = environment / "bin" / "python"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may share the cache
        if not done.exists():
            _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment))
            # Most of what is installed is never imported here, so nothing is compiled in advance.
            options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--require-hashes", "-r", str(LOCK))
            _run(sys.executable, "-m", "pip", "--python", str(python), "install", *options)
            done.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"


# What the SDKs' scenarios talk to: routers with faults, a gateway that is easily full, and one that limits.

_FAULTS = {
    "sdk-503": "small+fail503",
    "sdk-429": "small+429+retryafter=7",
    "sdk-400": "small+400",
    "sdk-404": "small+404",
    "sdk-filter": "small+filter",
    "sdk-context": "small+context",
    "sdk-hang": "small+hang",
    "sdk-cut": "small+streamerror100",
    "sdk-slow": "small+latency1500",
}


@asynccontextmanager
async def sdk_site(world: World, gateway: Gateway) -> AsyncIterator[Site]:
    """The site, with every router that the scenarios name."""
    async with world.client(gateway) as client:
        await _put_routers(client, world.simulator_url)
        key = {"name": "limited", "scopes": ["route"], "allowedRouters": ["demo"]}
        async with client.post("/api/keys", json=key) as made:
            limited = (await made.json())["key"]
    app = FakeStores().app(extra_routes=[_limiting])
    with world.gateway(MAX_IN_FLIGHT="1", MAX_BODY_MB="1") as busy:
        async with TestServer(app) as limits:
            url = str(limits.make_url("")).rstrip("/")
            yield Site(gateway.url, busy.url, url, world.admin_key, limited)


async def _put_routers(client: aiohttp.ClientSession, simulator_url: str) -> None:
    for router_id, provider_model in _FAULTS.items():
        await put_failing(client, router_id, provider_model)
    provider = {"id": "sdk-anthropic", "kind": "anthropic", "baseUrl": simulator_url, "apiKey": "none"}
    async with client.put("/api/providers/sdk-anthropic", json=provider) as put:
        assert put.status in (200, 201), await put.text()
    await put_model(client, "own/sdk-claude", "small", provider="sdk-anthropic")
    await put_router(client, "sdk-claude", ["own/sdk-claude"])
    await put_model(client, "own/sdk-embed-503", "embed+fail503", capabilities=["embeddings"])


async def put_failing(client: aiohttp.ClientSession, router_id: str, provider_model: str) -> None:
    """A router whose only model has a fault. Who waits for nothing waits briefly; the others may take their time."""
    await put_model(client, f"own/{router_id}", provider_model)
    timeouts = {"firstTokenMs": 300 if "hang" in provider_model else 10_000}
    await put_router(client, router_id, [f"own/{router_id}"], fallbackStrategy={"retryAttempts": 0}, timeouts=timeouts)


def _limiting(app: web.Application) -> None:
    """Routes that refuse everything as a limit of the caller, through the product's own table and envelopes."""
    calls: Counter[str] = Counter()

    async def refuse(request: web.Request) -> web.StreamResponse:
        name = request.headers["x-count"]
        calls[name] += 1
        raise RateLimited("Too many requests per minute", retry_after_s=1.0, details={"calls": calls[name]})

    chat = RouteSpec("POST", "/v1/chat/completions", refuse, "public", "s", "t")
    messages = RouteSpec("POST", "/v1/messages", refuse, "public", "s", "t", envelope=anthropic_envelope)
    add_routes(app, [chat, messages])
