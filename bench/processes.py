"""Memory of the processes of an installation, from /proc (None elsewhere)."""

import re
from pathlib import Path

_PROC = Path("/proc")
_KIB_PER_MIB = 1024.0


def find(role: str, data_dir: Path) -> int | None:
    """The process that `modelpilot up` over `data_dir` started as `role` (its command line ends with that)."""
    wanted = f"MODELPILOT_DATA_DIR={data_dir}".encode()
    for entry in _PROC.glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if arguments[-1] == role.encode() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
        except OSError:  # it ended, or is somebody else's
            continue
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
