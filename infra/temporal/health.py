"""Whether Temporal is up, and what its failed calls mean to the project."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from modelpilot.errors import DependencyUnavailable, NotFound

log = structlog.get_logger(__name__)

PROBE_EVERY_S = 2.0
# One late answer is a busy machine, a refused connection is a dead server.
LATE_ANSWERS = 3
PROBE_TIMEOUT = timedelta(seconds=1)
RETRY_AFTER_S = 2.0


class TemporalHealth:
    """Asks the service every other second, and believes a failed start at once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._late = 0
        self.up = True

    def report(self, up: bool) -> None:
        """What somebody has just seen."""
        self._late = 0
        if up != self.up:
            log.warning("temporal_up" if up else "temporal_down")
            self.up = up

    async def probe(self) -> bool:
        """Ask now."""
        try:
            self.report(await self._client.service_client.check_health(timeout=PROBE_TIMEOUT))
        except (RPCError, RuntimeError) as error:  # RuntimeError: it has never been connected
            self._missed(error)
        return self.up

    def _missed(self, error: RPCError | RuntimeError) -> None:
        late = self._late + 1
        away = isinstance(error, RuntimeError) or error.status == RPCStatusCode.UNAVAILABLE
        if away or late >= LATE_ANSWERS:
            self.report(up=False)
        self._late = late

    async def _watch(self) -> None:
        while True:
            await self.probe()
            await asyncio.sleep(PROBE_EVERY_S)

    def start(self) -> None:
        """Begin asking."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@contextmanager
def translated(missing: str = "") -> Iterator[None]:
    """Raise a failed call as NotFound, with the message given, where there is no such workflow; otherwise, and without
    a message always, as DependencyUnavailable."""
    try:
        yield
    except RuntimeError as error:  # a client that has never been connected
        raise DependencyUnavailable("Temporal does not answer", retry_after_s=RETRY_AFTER_S) from error
    except RPCError as error:
        if missing and error.status == RPCStatusCode.NOT_FOUND:
            raise NotFound(missing) from error
        log.warning("temporal_call_failed", status=error.status.name)
        raise DependencyUnavailable("Temporal did not acknowledge in time", retry_after_s=RETRY_AFTER_S) from error
