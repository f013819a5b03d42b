"""What the processes of an installation use, by role: CPU time and memory, each with its threads and its own children.

Read with psutil, which belongs to the development tools, as benchmarks do. Shared memory is known on Linux only.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import psutil

# The process that makes the load: this one, without what it started.
CLIENT = "client"
# In the order in which tables show them; others follow.
ROLES = ("gateway", "closer", "worker", "dashboard", "temporal", "postgres", "milvus", "simulator")
_FOREIGN = {"temporal": "temporal", "postgres": "postgres", "milvus-lite": "milvus"}
_MS_PER_S = 1_000.0
_BYTES_PER_MIB = 1_048_576.0


@dataclass(frozen=True, slots=True)
class Usage:
    """One role: the processes that it consists of but for their children, the CPU time of all of them since they began,
    and what they hold now (MiB)."""

    pids: tuple[int, ...]
    cpu_ms: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a role. `cpu_s` includes that of its children that have ended, so that none is lost with them;
    `rss` and `shared` (the part of it that others may hold, too) are bytes."""

    cpu_s: float
    rss: int
    shared: int


Reading = Mapping[str, Usage]


@dataclass(frozen=True, slots=True)
class ProcessMeter:
    """Reads every process that `modelpilot up` (process `stack`) started, the `others` by name, and this one.

    A reading takes some 30 ms, so it is made between phases.
    """

    stack: int
    others: Mapping[str, int] = field(default_factory=dict)

    def read(self) -> dict[str, Usage]:
        """What each role has used until now. A role that does not run is missing."""
        roots: dict[str, list[psutil.Process]] = defaultdict(list)
        for role, process in self._roots():
            roots[role].append(process)
        own = psutil.Process()
        times = own.cpu_times()
        client = summed([own.pid], [Part(times.user + times.system, own.memory_info().rss, 0)])
        return in_order({**{role: _usage(processes) for role, processes in roots.items()}, CLIENT: client})

    def memory_mb(self) -> dict[str, float]:
        """What each role holds now, MiB."""
        return {role: round(usage.memory_mb, 1) for role, usage in self.read().items()}

    def _roots(self) -> Iterator[tuple[str, psutil.Process]]:
        for process in psutil.Process(self.stack).children():
            try:
                role = role_of(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if role is not None:
                yield role, process
        for name, pid in self.others.items():
            if psutil.pid_exists(pid):
                yield name, psutil.Process(pid)


def role_of(arguments: Sequence[str]) -> str | None:
    """The role of a process by its command line: of ours the command after `-m cli`, of others the program's name.

    None for anything else.
    """
    if "-m" in arguments:
        module, *rest = arguments[arguments.index("-m") + 1 :] or ("",)
        return rest[0] if module == "cli" and rest else None
    # A script comes second, after its interpreter.
    programs = [PurePath(argument).name for argument in arguments[:2]]
    return next((_FOREIGN[name] for name in programs if name in _FOREIGN), None)


def in_order(found: Mapping[str, Usage]) -> dict[str, Usage]:
    """The roles in the order of tables: the installation's, then others, then the client."""
    last = [CLIENT] if CLIENT in found else []
    others = [role for role in found if role not in ROLES and role != CLIENT]
    return {role: found[role] for role in (*(role for role in ROLES if role in found), *others, *last)}


def cpu_used(before: Reading, after: Reading) -> dict[str, float | None]:
    """CPU milliseconds of each role between two readings; None where another process has taken its place."""
    return {
        role: usage.cpu_ms - before[role].cpu_ms if role in before and before[role].pids == usage.pids else None
        for role, usage in after.items()
    }


def summed(pids: Iterable[int], parts: Sequence[Part]) -> Usage:
    """What trees of processes use, `pids` at their roots. Pages that several share (Postgres' buffers) are counted
    once, at the size of the largest share; the memory of a single process is its RSS."""
    own = sum(part.rss - part.shared for part in parts)
    shared = max((part.shared for part in parts), default=0)
    return Usage(tuple(sorted(pids)), _MS_PER_S * sum(part.cpu_s for part in parts), (own + shared) / _BYTES_PER_MIB)


def _usage(roots: Sequence[psutil.Process]) -> Usage:
    members = [member for root in roots for member in _tree(root)]
    parts = [part for part in map(_part, members) if part is not None]
    return summed([root.pid for root in roots], parts)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _part(process: psutil.Process) -> Part | None:
    try:
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
    except psutil.NoSuchProcess:
        return None
    cpu_s = times.user + times.system + times.children_user + times.children_system
    return Part(cpu_s, memory.rss, getattr(memory, "shared", 0))
