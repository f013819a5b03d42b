"""An environment of its own for each client, made once and kept in a cache directory."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INSTALL_TIMEOUT_S = 900.0
SCRIPTS = Path(__file__).with_name("scripts")


class InstallError(Exception):
    """A client could not be installed; the text is the installer's."""


@dataclass(frozen=True, slots=True)
class Client:
    """One row of clients.toml: the client's program, and the packages that it needs with their versions.

    `install_scripts`: the packages' own install scripts may run, because the client needs them.
    """

    name: str
    title: str
    run: str
    python: Mapping[str, str] = field(default_factory=dict)
    node: Mapping[str, str] = field(default_factory=dict)
    install_scripts: bool = False

    @property
    def versions(self) -> str:
        """Its packages with their versions, for a reader."""
        return ", ".join(f"{name} {version}" for name, version in {**self.python, **self.node}.items())

    def directory(self, cache: Path) -> Path:
        """Where its environment is: another one for other versions or another Python."""
        versions = json.dumps([dict(self.python), dict(self.node), self.install_scripts, sys.version])
        return cache / f"{self.name}-{hashlib.sha256(versions.encode()).hexdigest()[:8]}"


def client_of(name: str, row: Mapping[str, Any]) -> Client:
    """The client of a row."""
    return Client(name, **row)


def installed(client: Client, cache: Path) -> tuple[str, ...]:
    """The command of the client's program; its environment is made where it is missing. Raises InstallError."""
    home = client.directory(cache)
    done = home / ".done"
    if not done.exists():
        home.mkdir(parents=True, exist_ok=True)
        if client.python:
            _install_python(client, home)
        if client.node:
            _install_node(client, home)
        done.touch()
    if client.run.endswith(".sh"):
        return "bash", str(SCRIPTS / client.run)
    if client.run.endswith(".py"):
        return str(home / "bin" / "python"), str(SCRIPTS / client.run)
    # Node looks for packages from a program's own place on, so the program moves to them.
    for script in ("features.mjs", client.run):
        (home / script).write_text((SCRIPTS / script).read_text())
    return "node", str(home / client.run)


def path_of(client: Client, cache: Path) -> str:
    """`PATH` with the commands of its environment first."""
    home = client.directory(cache)
    return os.pathsep.join([str(home / "bin"), str(home / "node_modules" / ".bin"), os.environ["PATH"]])


def _install_python(client: Client, home: Path) -> None:
    _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(home))
    packages = [f"{name}=={version}" for name, version in client.python.items()]
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")
    _run(sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", *options, *packages)


def _install_node(client: Client, home: Path) -> None:
    packages = {"name": client.name, "private": True, "dependencies": dict(client.node)}
    (home / "package.json").write_text(json.dumps(packages))
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    options += [] if client.install_scripts else ["--ignore-scripts"]
    _run("npm", "install", "--prefix", str(home), *options)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(command)}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")
