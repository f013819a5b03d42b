"""A whole installation with an analytics site, filled by `modelpilot demo` for two tenants."""

import http.cookiejar
import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import ports
from tests.support.world import PATIENCE_S, World, running_world, wait_until

PASSWORD = "correct horse battery"
# Tenant → its router and how many requests it sends. The admin sees the sum.
TRAFFIC = {"team-a": ("aardvark", 12), "team-b": ("buffalo", 5)}
# User of the site → tenant; None: an admin.
USERS = {"alice": "team-a", "bob": "team-b", "root": None}


@dataclass(frozen=True)
class FilledSite:
    """The site's address, and the installation behind it."""

    url: str
    world: World
    gateway_url: str

    def modelpilot(self, *arguments: str, key: str | None = None, given: str | None = None) -> str:
        """Run a command of the console script against it; what it printed. `given` is its standard input."""
        environment = {**self.world.environment, "MODELPILOT_API_URL": self.gateway_url}
        return _modelpilot(environment, *arguments, key=key, given=given)

    def dashboard(self, directory: Path, **variables: str) -> AbstractContextManager[str]:
        """One more site over the same installation, with other settings (by their names without the prefix); its
        address at 127.0.0.1."""
        given = {f"MODELPILOT_{name}": value for name, value in variables.items()}
        return _dashboard({**self.world.environment, **given}, directory)


@contextmanager
def filled_site(directory: Path) -> Iterator[FilledSite]:
    """Start everything, send the traffic, and make the users. The gateway goes on: pages may ask it."""
    with running_world(directory) as world, world.gateway() as gateway:
        environment = {**world.environment, "MODELPILOT_API_URL": gateway.url}
        for tenant, (router, count) in TRAFFIC.items():
            _send(environment, directory, tenant, router, count)
        for username, seen in USERS.items():
            whose = ("--admin",) if seen is None else ("--user", seen)
            _modelpilot(environment, "users", "add", username, *whose, "--password-stdin", given=PASSWORD)
        with _dashboard(environment, directory) as url:
            yield FilledSite(url, world, gateway.url)


def secret_name(tenant: str) -> str:
    """The name of a tenant's router, which no URL holds: who reads it has read the router."""
    return f"Known to {tenant} only"


def session_cookie(url: str, username: str) -> dict[str, Any]:
    """Log in without a browser; the cookie, as Playwright wants it."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = opener.open(f"{url}/login", timeout=PATIENCE_S).read().decode()
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    form = urllib.parse.urlencode({"csrf": csrf, "next": "/login", "username": username, "password": PASSWORD})
    opener.open(f"{url}/login", form.encode(), timeout=PATIENCE_S).close()
    value = next(one.value for one in jar if one.name == "mp_session")
    return {"name": "mp_session", "value": value, "domain": "127.0.0.1", "path": "/", "expires": -1}


def _send(environment: Mapping[str, str], directory: Path, tenant: str, router: str, count: int) -> None:
    scopes = ("--scope", "admin", "--scope", "route")
    made = json.loads(_modelpilot(environment, "keys", "create", "--user", tenant, *scopes, "--json"))
    document = directory / f"{router}.json"
    models = ["sim/small", "sim/medium", "sim/large"]
    document.write_text(json.dumps({"id": router, "name": secret_name(tenant), "availableModels": models}))
    _modelpilot(environment, "routers", "apply", "-f", str(document), key=made["key"])
    sent = ("--count", str(count), "--no-learn", "--json")  # nobody runs the batch jobs here
    _modelpilot(environment, "demo", "--router", router, *sent, key=made["key"])


@contextmanager
def _dashboard(environment: Mapping[str, str], directory: Path) -> Iterator[str]:
    port, log = ports.free_port(), directory / "dashboard.log"
    command = [sys.executable, "-m", "cli", "dashboard"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**environment, "MODELPILOT_DASHBOARD_PORT": str(port)}, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(process, url, log), f"the dashboard is not ready: see {log}")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _answers(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"the dashboard ended: {log.read_text()[-2000:]}")
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5.0) as answer:  # noqa: S310 - our own URL
            return bool(answer.status == 200)
    except OSError:
        return False


def _modelpilot(
    environment: Mapping[str, str], *arguments: str, key: str | None = None, given: str | None = None
) -> str:
    known = {**os.environ, **environment, **({"MODELPILOT_API_KEY": key} if key else {})}
    ran = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env=known,
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, f"{arguments}: {ran.stdout}{ran.stderr}"
    return ran.stdout
