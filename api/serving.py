"""Serving one gateway: HTTP server and worker together, and the drain at the end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web
from temporalio.worker import Worker

from activities.inflight import BackgroundTasks, FlightRegistry
from api.app import RUNNER_OPTIONS

log = structlog.get_logger(__name__)

_DRAIN_POLL_S = 0.05


@dataclass(slots=True)
class Gateway:
    """The parts of one gateway that serving needs."""

    app: web.Application
    worker: Worker
    registry: FlightRegistry
    background: BackgroundTasks
    draining: asyncio.Event


async def serve(gateway: Gateway, host: str, port: int, drain_s: float, stop: asyncio.Event) -> None:
    """Serve until `stop` is set or the worker dies, then drain for at most `drain_s`."""
    working = asyncio.create_task(gateway.worker.run())
    runner = web.AppRunner(gateway.app, access_log=None, shutdown_timeout=drain_s, **RUNNER_OPTIONS)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    log.info("gateway_listening", host=host, port=port, instance=gateway.registry.instance)
    await asyncio.wait({working, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await _drain(gateway, runner, working, drain_s)


async def _drain(gateway: Gateway, runner: web.AppRunner, working: "asyncio.Task[None]", drain_s: float) -> None:
    """Readiness fails, requests in flight finish, their workflows close, then the worker goes."""
    gateway.draining.set()
    deadline = asyncio.get_running_loop().time() + drain_s
    await _until(lambda: gateway.registry.active == 0, deadline)
    await runner.cleanup()
    await _until(lambda: gateway.registry.unstored == 0, deadline)
    await gateway.background.drain(1.0)
    if working.done():
        await working  # a worker that ended by itself says why
    await gateway.worker.shutdown()
    await asyncio.gather(working, return_exceptions=True)


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    # Polled: an event on every change of the registry would sit on the request path.
    while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_DRAIN_POLL_S)
