"""A gateway at several addresses, IPv6 among them, and what is said where one cannot be had."""

import asyncio
import json
import subprocess
import sys
from urllib.parse import urlsplit

import aiohttp
import pytest

from infra.local import ports
from tests.support.world import PATIENCE_S, World

pytestmark = pytest.mark.timeout(300)


async def test_a_gateway_answers_at_every_address(world: World) -> None:
    """Requests of clients, readiness, and `doctor`, which takes the first address of this machine."""
    listening = "[::1], 127.0.0.1,127.0.0.2"
    with world.gateway(HOST=listening, DASHBOARD_PUBLIC_URL="https://ops.example/") as gateway:
        port = urlsplit(gateway.url).port
        headers = {"authorization": f"Bearer {world.admin_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            for host in ("127.0.0.1", "127.0.0.2", "[::1]"):
                body = {"messages": [{"role": "user", "content": f"Hello {host}"}]}
                async with session.post(f"http://{host}:{port}/router/demo", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                async with session.get(f"http://{host}:{port}/") as answer:
                    assert (await answer.json())["links"]["site"] == "https://ops.example/"
        environment = {**world.environment, "MODELPILOT_HOST": listening, "MODELPILOT_API_PORT": str(port)}
        checked = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "cli", "doctor", "--json"],
            env=environment,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
    found = {one["name"]: one for one in json.loads(checked.stdout)}
    assert found["gateway"]["detail"].startswith(f"http://[::1]:{port} is ready")


@pytest.mark.parametrize(("role", "variable"), [("gateway", "HOST"), ("dashboard", "DASHBOARD_HOST"), ("up", "HOST")])
def test_an_address_of_another_machine(world: World, role: str, variable: str) -> None:
    """It is no port in use: the variable is wrong."""
    variables = {
        f"MODELPILOT_{variable}": "127.0.0.1,192.0.2.1",
        "MODELPILOT_API_PORT": str(ports.free_port()),
        "MODELPILOT_DASHBOARD_PORT": str(ports.free_port()),
        "MODELPILOT_DATA_DIR": str(world.directory / "elsewhere"),
    }
    environment = {**world.environment, **variables}
    argv = [sys.executable, "-m", "cli", role]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 2, done.stderr
    assert f"modelpilot: MODELPILOT_{variable}: this machine has no address 192.0.2.1\n" in done.stderr
