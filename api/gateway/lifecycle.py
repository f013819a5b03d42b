"""The life of one gateway: HTTP server and worker together, its lease, forgetting what is over, and the drain."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiohttp import web
from prometheus_client import Gauge
from temporalio.worker import Worker

from activities.requests.controller import FlightController
from activities.requests.flight import BackgroundTasks, FlightRegistry
from api.app import RUNNER_OPTIONS
from modelpilot.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

SWEEP_EVERY_S = 10.0
_DRAIN_POLL_S = 0.05
_WORKER_GRACE_S = 8.0  # longer than the worker's own grace
_HANDLER_GRACE_S = 1.0  # for writing answers that are there; the drain has waited for the requests before

FLIGHTS = Gauge("modelpilot_flights", "Requests that this gateway holds an in-flight entry for")


@dataclass(slots=True)
class Gateway:
    """The parts of one gateway that serving needs."""

    app: web.Application
    worker: Worker
    registry: FlightRegistry
    controller: FlightController
    background: BackgroundTasks
    draining: asyncio.Event


async def serve(gateway: Gateway, host: str, port: int, drain_s: float, stop: asyncio.Event) -> bool:
    """Serve until `stop` is set or the worker dies, then drain for at most `drain_s`.

    False where requests were left to other processes: the worker would then wait for them for as long as they take.
    """
    working = asyncio.create_task(gateway.worker.run())
    runner = web.AppRunner(gateway.app, access_log=None, shutdown_timeout=_HANDLER_GRACE_S, **RUNNER_OPTIONS)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    log.info("gateway_listening", host=host, port=port, instance=gateway.registry.instance)
    await asyncio.wait({working, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    return await _drain(gateway, runner, working, drain_s)


async def _drain(gateway: Gateway, runner: web.AppRunner, working: "asyncio.Task[None]", drain_s: float) -> bool:
    """Readiness fails, requests in flight finish, their workflows close, then the worker goes. What takes longer than
    the drain is left to another process, like after a crash."""
    gateway.draining.set()
    deadline = asyncio.get_running_loop().time() + drain_s
    await _until(lambda: gateway.registry.active == 0, deadline)
    gateway.controller.release(gateway.registry.unsettled())
    await runner.cleanup()
    await _until(lambda: gateway.registry.unstored == 0, deadline)
    await gateway.background.drain(1.0)
    if working.done():
        await working  # a worker that ended by itself says why
    stopping = asyncio.ensure_future(asyncio.gather(gateway.worker.shutdown(), working, return_exceptions=True))
    done, _ = await asyncio.wait({stopping}, timeout=_WORKER_GRACE_S)
    if not done:
        log.warning("requests_left_to_other_processes", count=len(gateway.registry.unsettled()))
    return bool(done)


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    # Polled: an event on every change of the registry would sit on the request path.
    while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_DRAIN_POLL_S)


class InstanceLease(Protocol):
    """This process's own lease."""

    async def register(self, instance: str, host: str) -> None:
        """Make the instance alive."""
        ...

    async def heartbeat(self, instance: str) -> bool:
        """Renew the lease; false where it had lapsed."""
        ...


async def keep_lease(lease: InstanceLease, instance: str, host: str, every_s: float) -> None:
    """Renew the lease until canceled. A lapsed one means that others may have taken over: it is taken anew."""
    while True:
        await asyncio.sleep(every_s)
        try:
            if not await lease.heartbeat(instance):
                log.error("lease_lapsed", instance=instance)
                await lease.register(instance, host)
        except DependencyUnavailable:
            log.warning("heartbeat_failed", instance=instance)


async def sweep_flights(registry: FlightRegistry, open_workflow_ids: Callable[[], Awaitable[list[str]]]) -> None:
    """Until canceled: ask Temporal once for all stored flights which are still open, and forget the others.

    One question for all of them, since a long poll each would cost the server more than the requests do.
    """
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        FLIGHTS.set(len(registry))
        asked_at = time.monotonic()
        if not registry.stored():
            continue
        try:
            registry.sweep(await open_workflow_ids(), asked_at)
        except DependencyUnavailable:
            continue  # Temporal is away: entries stay, since their tasks may come back with it
