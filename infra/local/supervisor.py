"""The supervisor: start in the order of dependencies, keep running, stop in the reverse order."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from infra.local.child import Child
from infra.local.errors import ServiceFailed
from infra.local.service import Service, bring_up


class State(Enum):
    """What an event reports."""

    STARTING = "starting"
    STILL_STARTING = "still starting"
    READY = "ready"
    DONE = "done"
    CRASHED = "crashed"
    STOPPING = "stopping"
    STILL_STOPPING = "still stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """A change of a service, or that it still takes, for display; `seconds` is how long that has taken. `detail` may
    have several lines: of a job, what it printed."""

    service: str
    state: State
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class RestartPolicy:
    """At most `limit` restarts in `window_seconds`; the waits before them double, from the first to the maximum."""

    limit: int = 5
    window_seconds: float = 60.0
    first_wait_seconds: float = 0.1
    max_wait_seconds: float = 5.0

    def wait_seconds(self, earlier: int) -> float:
        """How long to wait before a restart that `earlier` others in the window precede."""
        return float(min(self.first_wait_seconds * 2**earlier, self.max_wait_seconds))


REMIND_SECONDS = 4.0


@dataclass
class _Running:
    service: Service
    child: Child
    restarts: deque[float] = field(default_factory=deque)
    watcher: asyncio.Task[None] | None = None


class Supervisor:
    """Runs a set of services. Use on the main thread: `start`, then wait for `failed`, then `stop` (always)."""

    def __init__(
        self,
        report: Callable[[Event], None],
        policy: RestartPolicy | None = None,
        remind_seconds: float = REMIND_SECONDS,
    ) -> None:
        self._report = report
        self._policy = policy or RestartPolicy()
        self._remind_seconds = remind_seconds
        self._running: dict[str, _Running] = {}
        self._gone: dict[str, asyncio.Event] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, services: Sequence[Service]) -> None:
        """Start every service as soon as those it comes after are ready; raises ServiceFailed when one does not.

        A name in `after` that is not among the services (because it is given by the settings) counts as ready.
        """
        ready = {service.name: asyncio.Event() for service in services}
        tasks = [asyncio.create_task(self._start_one(service, ready)) for service in services]
        try:
            started = asyncio.gather(*tasks)
            outcomes: set[asyncio.Future[Any]] = {started, self._failure}
            await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():  # what was ready first has crashed too often meanwhile
                self._failure.result()
            await started
        finally:
            for task in tasks:
                task.cancel()
            # A canceled start ends its process itself; only then is it known what runs.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def failed(self) -> None:
        """Wait until a service has crashed too often; raises ServiceFailed then, and never returns otherwise."""
        await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stop everything: each service as soon as all that come after it have ended."""
        if self._failure.done():
            self._failure.exception()  # seen, also where nobody waited for it
        self._gone = {name: asyncio.Event() for name in self._running}
        await asyncio.gather(*(self._stop_one(running) for running in self._running.values()))
        self._running.clear()

    def kill(self) -> None:
        """Hurry: end every process at once (a second Ctrl-C)."""
        for running in self._running.values():
            running.child.kill()

    async def _start_one(self, service: Service, ready: dict[str, asyncio.Event]) -> None:
        for name in service.after:
            if name in ready:
                await ready[name].wait()
        began = time.monotonic()
        self._report(Event(service.name, State.STARTING))
        async with self._reminding(service.name, State.STILL_STARTING):
            child = await bring_up(service)
        if service.probe is not None:
            running = self._running[service.name] = _Running(service, child)
            running.watcher = asyncio.create_task(self._watch(running))
        seconds = time.monotonic() - began
        if service.probe is None:
            self._report(Event(service.name, State.DONE, seconds, child.log_tail()))
        else:
            self._report(Event(service.name, State.READY, seconds))
        ready[service.name].set()

    @asynccontextmanager
    async def _reminding(self, name: str, state: State) -> AsyncIterator[None]:
        """Report `state` every few seconds while the block lasts: nobody shall take what is slow for stuck."""
        began = time.monotonic()

        async def remind() -> None:
            while True:
                await asyncio.sleep(self._remind_seconds)
                self._report(Event(name, state, time.monotonic() - began))

        reminder = asyncio.create_task(remind())
        try:
            yield
        finally:
            reminder.cancel()
            await asyncio.gather(reminder, return_exceptions=True)

    async def _watch(self, running: _Running) -> None:
        while True:
            code = await running.child.wait()
            what = f"exited with code {code}"
            while not await self._restart(running, what):
                what = "did not come back"

    async def _restart(self, running: _Running, what: str) -> bool:
        began = time.monotonic()
        name, restarts = running.service.name, running.restarts
        while restarts and began - restarts[0] > self._policy.window_seconds:
            restarts.popleft()
        if len(restarts) >= self._policy.limit:
            self._give_up(running, what)
            await asyncio.Event().wait()  # until `stop` cancels this watcher
        wait_seconds = self._policy.wait_seconds(len(restarts))
        restarts.append(began)
        self._report(Event(name, State.CRASHED, detail=f"{what}; restarting in {wait_seconds:g} s"))
        await asyncio.sleep(wait_seconds)
        try:
            running.child = await bring_up(running.service)
        except ServiceFailed as error:
            self._report(Event(name, State.CRASHED, detail=str(error)))
            return False
        self._report(Event(name, State.READY, time.monotonic() - began))
        return True

    def _give_up(self, running: _Running, what: str) -> None:
        policy, child = self._policy, running.child
        message = (
            f"{running.service.name} {what}, after {policy.limit} restarts within {policy.window_seconds:g} s: "
            f"giving up. The end of {child.spec.log_path}:\n{child.log_tail()}"
        )
        if not self._failure.done():
            self._failure.set_exception(ServiceFailed(message))

    async def _stop_one(self, running: _Running) -> None:
        if running.watcher is not None:
            running.watcher.cancel()
            await asyncio.gather(running.watcher, return_exceptions=True)
        name = running.service.name
        for other in self._running.values():
            if name in other.service.after:
                await self._gone[other.service.name].wait()
        began = time.monotonic()
        self._report(Event(name, State.STOPPING))
        async with self._reminding(name, State.STILL_STOPPING):
            code = await running.child.stop()
        self._report(Event(name, State.STOPPED, time.monotonic() - began, detail=f"exit code {code}"))
        self._gone[name].set()
