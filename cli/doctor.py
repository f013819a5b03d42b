"""`modelpilot doctor`: a line for everything that has to be right, and what to do where it is not.

Some checks need no service (Python, settings, files, ports, keys), the others ask the services.
"""

import asyncio
import http.client
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import typer

from cli.client import EXIT_CONFIGURATION, EXIT_FAILED
from cli.output import AsJson, print_json
from infra.local import ports
from infra.local.data_dir import DataDir, running_pid
from infra.local.environment import join_running_stack
from infra.local.stack import bind_addresses, fixed_ports
from infra.settings import ConfigurationError, Settings, load_settings, read_variables, unknown_variables
from infra.variables import set_twice
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.kinds import PUBLIC_KINDS
from modelpilot.requests.records import Backlog

OLDEST_PYTHON = (3, 11)
# Longer than any request may take.
OLD_BACKLOG_S = 900.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `advice` says what to do; it is empty where nothing is."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def python_version(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """The interpreter that runs this."""
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return Check("python", "fail", text, "ModelPilot needs 3.11 or newer: make PYTHON=python3.12 install")
    return Check("python", "ok", text)


def settings_are_known(settings: Settings, variables: Mapping[str, str]) -> Iterator[Check]:
    """The environment, and variables that look like settings but are none."""
    yield Check("settings", "ok", f"{settings.env}, data in {settings.data_dir}")
    for problem in (*unknown_variables(Settings, variables), *set_twice()):
        yield Check("settings", "warn", problem, "correct or remove it")


def data_dir(data: DataDir) -> Check:
    """It can be written, and nobody else can write into it."""
    if not data.root.exists():
        return Check("data directory", "ok", f"{data.root} will be made at the first start")
    if not data.root.is_dir():
        return Check("data directory", "fail", f"{data.root} is no directory", "set another MODELPILOT_DATA_DIR")
    mode = stat.S_IMODE(data.root.stat().st_mode)
    if not os.access(data.root, os.R_OK | os.W_OK | os.X_OK):
        return Check("data directory", "fail", f"{data.root} cannot be written", "run as its owner, or chown it")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Check(
            "data directory", "fail", f"others may write to {data.root} ({mode:04o})", f"chmod 700 {data.root}"
        )
    return Check("data directory", "ok", f"{data.root} ({mode:04o})")


def key_files(settings: Settings, data: DataDir) -> Iterator[Check]:
    """Secrets are readable by their owner only, and the encryption keys exist somewhere."""
    yield _key_file("admin key", data.admin_key, data.run.exists(), "`modelpilot keys create --admin` makes a new one")
    if settings.encryption_keys:
        yield Check("encryption keys", "ok", f"{len(settings.encryption_keys)} given by MODELPILOT_ENCRYPTION_KEYS")
    else:
        advice = "put the backup back: without it nothing that is stored encrypted can be read"
        yield _key_file("encryption keys", data.encryption_keys, data.run.exists(), advice)


def _key_file(name: str, path: Path, started_before: bool, if_lost: str) -> Check:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        if not started_before:
            return Check(name, "ok", f"{path} will be made at the first start")
        return Check(name, "warn", f"{path} does not exist", if_lost)
    except OSError as error:
        return Check(name, "fail", f"{path}: {error.strerror}", "run as the owner of the data directory")
    if mode & 0o077:
        return Check(
            name, "fail", f"others may read {path} ({mode:04o})", f"chmod 600 {path}, and rotate what is in it"
        )
    return Check(name, "ok", f"{path} ({mode:04o})")


def port_checks(settings: Settings, data: DataDir) -> Iterator[Check]:
    """Each address is one of ours, and each fixed port is served by the running stack, or free for the next start."""
    for variable, addresses in bind_addresses(settings).items():
        if foreign := ports.foreign_address(addresses):
            detail = f"{variable}: this machine has no address {foreign}"
            yield Check("settings", "fail", detail, "correct the variable, in the environment or in .env")
    pid = running_pid(data.lock) if data.root.exists() else None
    for variable, (host, port) in fixed_ports(settings).items():
        free = ports.is_free(host, port)
        if pid is not None:
            status: Literal["ok", "fail"] = "fail" if free else "ok"
            detail = "nothing listens, though the stack runs" if free else f"served by the stack (process {pid})"
            yield Check(f"port {port}", status, detail, f"see {data.logs}" if free else "")
        elif free:
            yield Check(f"port {port}", "ok", f"free ({variable})")
        else:
            advice = f"if that is not ModelPilot, stop it or set {variable}"
            yield Check(f"port {port}", "warn", "something listens there", advice)


def provider_keys(settings: Settings) -> Check:
    """Which real providers the environment has keys for; those made through the API are in the database."""
    present = [kind for kind in PUBLIC_KINDS if settings.provider_keys(kind)]
    if present:
        return Check("provider keys", "ok", ", ".join(present))
    advice = "set OPENAI_API_KEY, … in the environment or .env, or PUT /api/providers/{id}"
    return Check("provider keys", "warn", "none in the environment: only the simulator answers", advice)


_TIMEOUT_S = 5.0
_START = "start it with `modelpilot up`"


def services(settings: Settings) -> Iterator[Check]:
    """Postgres, Temporal, Milvus and the gateway. Embedded ones that nobody has started are a warning."""
    try:
        settings = join_running_stack(settings)
    except ConfigurationError:
        # Given ones are checked all the same; the others belong to a stack that does not run.
        yield Check("stack", "warn", f"nothing runs on {settings.data_dir}", _START)
    if settings.database_url:
        found = postgres(settings.database_url)
        yield found
        if found.status == "ok":
            yield backlog(settings.database_url)
    if settings.temporal_address:
        yield asyncio.run(temporal(settings))
    if settings.milvus_uri:
        yield milvus(settings)
    yield gateway(settings)


def postgres(url: str) -> Check:
    """Reachable, and with the schema of this version."""
    from infra.db.migrate import check

    try:
        check(url)
    except DependencyUnavailable as error:
        return Check("postgres", "fail", error.message, "start it, or run `modelpilot migrate` for an old schema")
    return Check("postgres", "ok", "reachable, with the schema of this version")


def backlog(url: str) -> Check:
    """Accepted requests whose workflows are not closed; an old one means that no closer works, or that it cannot."""
    from infra.crypto.keyring import Keyring, generate_key
    from infra.db.engine import Database
    from infra.db.requests.open_requests import OpenRequests

    async def ask() -> Backlog:
        async with Database(url) as database:
            return await OpenRequests(database, Keyring([generate_key()]), "doctor").backlog()

    try:
        found = asyncio.run(ask())
    except DependencyUnavailable as error:
        return Check("backlog", "fail", error.message, "see the line above")
    detail = f"{found.rows:,} requests without a closed workflow"
    if found.rows and found.age_s > OLD_BACKLOG_S:
        advice = "is a closer running, and Temporal up? `modelpilot requests show ID` says what one waits for"
        return Check("backlog", "warn", f"{detail}, the oldest for {found.age_s:,.0f} s", advice)
    return Check("backlog", "ok", detail)


async def temporal(settings: Settings) -> Check:
    """Reachable, and with our search attributes."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
    from temporalio.service import RPCError

    from infra.crypto.keyring import Keyring, generate_key
    from infra.temporal.client import SEARCH_ATTRIBUTES, connect

    name, address = "temporal", settings.temporal_address
    try:
        # Nothing is decrypted here, so any key will do.
        client = await connect(settings, Keyring([generate_key()]), "doctor", wait_s=1.0)
        request = ListSearchAttributesRequest(namespace=client.namespace)
        known = (await client.operator_service.list_search_attributes(request)).custom_attributes
    except DependencyUnavailable:
        return Check(name, "fail", f"{address} does not answer", "start it, or correct MODELPILOT_TEMPORAL_ADDRESS")
    except RPCError as error:
        return Check(name, "fail", f"{address}: {error.message}", "check MODELPILOT_TEMPORAL_NAMESPACE and its rights")
    if missing := [attribute for attribute in SEARCH_ATTRIBUTES if attribute not in known]:
        return Check(name, "fail", f"search attributes are missing: {', '.join(missing)}", "a closer's start adds them")
    return Check(name, "ok", f"{address}, namespace {settings.temporal_namespace}, search attributes present")


def milvus(settings: Settings) -> Check:
    """Reachable, and with vectors of the configured embedder. Missing Milvus only degrades a request."""
    from infra.vectors.client import recorded_embedder
    from infra.vectors.embedders import EmbedderConfig, create_embedder

    token = settings.milvus_token_text
    try:
        found = recorded_embedder(str(settings.milvus_uri), token)
    except DependencyUnavailable as error:
        return Check("milvus", "fail", error.message, "start it; until then requests are routed without history")
    if found is None:
        return Check("milvus", "ok", "reachable, no history yet")
    embedder = create_embedder(EmbedderConfig())
    if (found.name, found.dimension) != (embedder.name, str(embedder.dimension)):
        detail = (
            f"holds vectors of {found.name} ({found.dimension}), but {embedder.name} ({embedder.dimension}) is used"
        )
        return Check("milvus", "fail", detail, "go back to that embedder, or use another Milvus database")
    return Check("milvus", "ok", f"reachable, vectors of {found.name} ({found.dimension} dimensions)")


def gateway(settings: Settings) -> Check:
    """What `/readyz` says."""
    try:
        status, body = _get_json(f"{settings.api_url}/readyz")
    except (OSError, http.client.HTTPException, ValueError):
        return Check("gateway", "warn", f"nothing answers at {settings.api_url}", _START)
    state = body.get("status", "unknown") if isinstance(body, dict) else "unknown"
    down = [name for name, one in _dependencies(body).items() if one.get("status") != "up"]
    detail = f"{settings.api_url} is {state}" + (f" without {', '.join(down)}" if down else "")
    if status != http.client.OK:
        return Check("gateway", "fail", detail, "see the lines above")
    return Check("gateway", "ok" if state == "ready" else "warn", detail, "see the lines above" if down else "")


def _dependencies(body: Any) -> dict[str, dict[str, Any]]:
    found = body.get("dependencies") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _get_json(url: str) -> tuple[int, Any]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def command(as_json: AsJson = False) -> None:
    """Check Python, the configuration, files, ports, every service and the provider keys; nothing is changed.

    Exit codes: 0 nothing failed (warnings are allowed), 1 something did, 2 wrong usage or configuration.
    """
    found: list[Check] = []
    for check in checks():
        found.append(check)
        if not as_json:
            typer.echo(line(check))  # at once: an absent service takes seconds to be sure of
    if as_json:
        print_json([asdict(check) for check in found])
    failed = {check.name for check in found if check.status == "fail"}
    if failed:
        raise typer.Exit(EXIT_CONFIGURATION if "settings" in failed else EXIT_FAILED)


def checks() -> Iterator[Check]:
    """Every check; those that need settings are left out where the settings are wrong."""
    yield python_version()
    try:
        variables = read_variables()
        settings = load_settings(variables)
        _check_providers(settings)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Check("settings", "fail", problem, "correct the variable, in the environment or in .env")
        return
    data = DataDir(settings.data_dir)
    yield from settings_are_known(settings, variables)
    yield data_dir(data)
    if not data.root.exists() or (os.access(data.root, os.R_OK | os.W_OK | os.X_OK) and data.root.is_dir()):
        yield from key_files(settings, data)
        yield from port_checks(settings, data)
        yield from services(settings)
    yield provider_keys(settings)


def _check_providers(settings: Settings) -> None:
    """Raise ConfigurationError where a provider has an address that it may not have."""
    from infra.providers.environment import provider_endpoints

    provider_endpoints(settings)


def line(check: Check) -> str:
    """`ok    postgres          reachable …`, with what to do on a line of its own."""
    advice = f"\n{'':26}→ {check.advice}" if check.advice else ""
    return f"{check.status:<5} {check.name:<19} {check.detail}{advice}"
