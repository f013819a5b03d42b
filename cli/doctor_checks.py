"""The checks of `modelpilot doctor` that need no service: Python, settings, files, ports, keys."""

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.local import ports
from infra.local.data_dir import DataDir, running_pid
from infra.local.stack import fixed_ports
from infra.settings import Settings, unknown_variables

OLDEST_PYTHON = (3, 11)
_PROVIDERS = ("openai", "anthropic", "google", "openrouter")


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
    for problem in unknown_variables(Settings, variables):
        yield Check("settings", "warn", problem, "correct or remove it")


def data_dir(data: DataDir) -> Check:
    """It can be written, and nobody else can write into it."""
    if not data.root.exists():
        return Check("data directory", "ok", f"{data.root} will be made at the first start")
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
    """Each fixed port is served by the running stack, or free for the next start."""
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
    present = [name for name in _PROVIDERS if getattr(settings, f"{name}_api_key")]
    if present:
        return Check("provider keys", "ok", ", ".join(present))
    advice = "set OPENAI_API_KEY, … in the environment or .env, or PUT /api/providers/{id}"
    return Check("provider keys", "warn", "none in the environment: only the simulator answers", advice)
