"""Ports and programs that embedded services need.

Fixed ports must be free before anything starts; the others are chosen once and kept where possible.
"""

import asyncio
import errno
import json
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from infra.local.errors import PortTaken, ToolMissing
from infra.settings import ConfigurationError

LOOPBACK = "127.0.0.1"
ASK_AGAIN_SECONDS = 0.05


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now; `host` may be several addresses, separated by commas."""
    return all(_bind_error(address, port) is None for address in host.split(","))


def foreign_address(host: str) -> str | None:
    """The first of the addresses (separated by commas) that this machine does not have; None: it has all of them."""
    no_such = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return next((address for address in host.split(",") if _bind_error(address, 0) in no_such), None)


def _bind_error(address: str, port: int) -> int | None:
    """Why a server could not listen there (of `errno`), None: it could."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: connections of a predecessor in TIME_WAIT are no obstacle, and IPv6 is IPv6 only.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno or errno.EINVAL
    return None


def require_own(hosts: Mapping[str, str]) -> None:
    """Check `{variable: addresses to listen on}`; raises ConfigurationError naming what this machine does not have."""
    foreign = {variable: foreign_address(host) for variable, host in hosts.items()}
    if problems := [f"{name}: this machine has no address {host}" for name, host in foreign.items() if host]:
        raise ConfigurationError(problems)


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def remembered_port(memory: Path, name: str) -> int:
    """The loopback port that `name` had last time, or a new one when that is taken; kept in the JSON file `memory`.

    A port that stays the same lets a saved provider address and a browser tab survive a restart.
    """
    ports = _recall(memory)
    port = ports.get(name)
    if port is None or port in (p for n, p in ports.items() if n != name) or not is_free(LOOPBACK, port):
        port = free_port()
        memory.write_text(json.dumps({**ports, name: port}), encoding="utf-8")
    return port


def _recall(memory: Path) -> dict[str, int]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only a preference: the next choice overwrites it
    return {n: p for n, p in known.items() if isinstance(p, int)} if isinstance(known, dict) else {}


async def require_free(ports: Mapping[str, tuple[str, int]], patience_seconds: float = 2.0) -> None:
    """Check `{variable: (host, port)}`, where a host may be several addresses; raises PortTaken naming each port that
    is in use, and its variable.

    Patient for a moment, because the processes of a killed predecessor may still be dying.
    """
    give_up_at = time.monotonic() + patience_seconds
    while taken := {v: p for v, (host, p) in ports.items() if not is_free(host, p)}:
        if time.monotonic() > give_up_at:
            which = ", ".join(f"port {port} ({variable})" for variable, port in taken.items())
            raise PortTaken(f"In use already: {which}. Stop what listens there, or set another port.")
        await asyncio.sleep(ASK_AGAIN_SECONDS)


def find_tool(name: str, otherwise: str) -> Path:
    """The program `name`: beside this Python (where its wheel put it), else on PATH.

    Raises ToolMissing, which says how to install it, or `otherwise`.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise ToolMissing(
            f"The program `{name}` is neither beside Python nor on PATH. Run `make install`, or {otherwise}."
        )
    return Path(found)
