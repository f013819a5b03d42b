"""A service: a process, what must run before it, how to prepare it and how to ask whether it is ready."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from infra.embedded.child import Child, ChildSpec
from infra.embedded.errors import ServiceFailed
from infra.embedded.probes import NotReady, Probe

PROBE_SECONDS = 3.0
ASK_AGAIN_SECONDS = 0.05
Prepare = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Service:
    """One node of the stack. Without a probe it is a job: it is "ready" when it has ended with exit code 0."""

    spec: ChildSpec
    probe: Probe | None = None
    after: tuple[str, ...] = ()
    prepare: Prepare | None = None
    ready_seconds: float = 60.0
    # How often it is started before it is given up, where it exits before it is ready.
    starts: int = 1

    @property
    def name(self) -> str:
        """Name of the process, unique in the stack."""
        return self.spec.name


async def bring_up(service: Service) -> Child:
    """Prepare, start, and wait until it is ready.

    Raises ServiceFailed, with the end of the log, when it exits or is not ready in time; it does not run then.
    Must be called on the main thread (see Child).
    """
    if service.prepare is not None:
        await service.prepare()
    for _ in range(service.starts - 1):
        try:
            return await _started(service)
        except _ExitedEarly:
            continue
    return await _started(service)


class _ExitedEarly(ServiceFailed):
    """It ended by itself before it was ready."""


async def _started(service: Service) -> Child:
    child = Child(service.spec)
    try:
        if service.probe is None:
            await _job_done(child, service.ready_seconds)
        else:
            await _ready(child, service.probe, service.ready_seconds)
    except BaseException:
        await child.stop()
        raise
    return child


async def _job_done(child: Child, seconds: float) -> None:
    if not await child.exited_within(seconds):
        raise ServiceFailed(_with_log(child, f"did not finish within {seconds:g} s"))
    if child.exit_code != 0:
        raise ServiceFailed(_with_log(child, f"failed with exit code {child.exit_code}"))


async def _ready(child: Child, probe: Probe, seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            await asyncio.wait_for(probe(), PROBE_SECONDS)
        except (NotReady, OSError) as error:  # TimeoutError is an OSError
            reason = str(error) or type(error).__name__
        else:
            return
        if await child.exited_within(ASK_AGAIN_SECONDS):
            raise _ExitedEarly(_with_log(child, f"exited with code {child.exit_code} before it was ready"))
        if time.monotonic() > give_up_at:
            raise ServiceFailed(_with_log(child, f"was not ready within {seconds:g} s ({reason})"))


def _with_log(child: Child, what: str) -> str:
    tail = child.log_tail() or "(it wrote nothing)"
    return f"{child.spec.name} {what}. The end of {child.spec.log_path}:\n{tail}"
