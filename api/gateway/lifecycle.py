"""The life of one gateway: its HTTP server, what it does beside, and the drain."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from aiohttp import web
from prometheus_client import Gauge

from activities.requests.controller import FlightController
from activities.requests.flight import BackgroundTasks, FlightRegistry
from api.app import RUNNER_OPTIONS
from api.http.connections import GuardedRunner
from api.services import SERVICES

log = structlog.get_logger(__name__)

_DRAIN_POLL_S = 0.05
# Connections that wait to be taken while the loop is busy; beyond, the kernel would make clients try again.
_LISTEN_BACKLOG = 1_024
_ACCEPTED_PER_TURN = 16
_HANDLER_GRACE_S = 1.0  # for writing answers that are there; the drain has waited for the requests before

FLIGHTS = Gauge("modelpilot_flights", "Requests that this gateway holds an in-flight entry for")


@dataclass(slots=True)
class Gateway:
    """The parts of one gateway that serving needs."""

    app: web.Application
    registry: FlightRegistry
    controller: FlightController
    background: BackgroundTasks
    draining: asyncio.Event


async def serve(gateway: Gateway, host: str, port: int, drain_s: float, stop: asyncio.Event) -> None:
    """Serve on `host` (one address, or several separated by commas) until `stop` is set, then drain for at most
    `drain_s`. Raises OSError, whose `filename` is the address that could not be listened on."""
    FLIGHTS.set_function(lambda: len(gateway.registry))
    limits = gateway.app[SERVICES].connections
    runner = GuardedRunner(gateway.app, limits, access_log=None, shutdown_timeout=_HANDLER_GRACE_S, **RUNNER_OPTIONS)
    await runner.setup()
    for listener in _listeners(host, port):
        await web.SockSite(runner, listener, backlog=_LISTEN_BACKLOG).start()
    log.info("gateway_listening", host=host, port=port, instance=gateway.registry.instance)
    await stop.wait()
    await _drain(gateway, runner, drain_s)


def _listeners(host: str, port: int) -> Iterator[socket.socket]:
    """What to accept connections from. Each address several times: libuv accepts one connection per listener in a turn
    of the loop, so that under load clients would wait for seconds, or be dropped by the kernel, before we know of them.
    Raises OSError where one cannot be had."""
    found = {one for name in host.split(",") for one in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)}
    for family, _, _, _, address in found:
        try:
            listener = socket.create_server(address, family=family, backlog=_LISTEN_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and len(found) > 1 and "localhost" in host.split(","):
                continue  # a name of two addresses, of which this machine has one
            raise OSError(error.errno, error.strerror, address[0]) from error
        yield listener
        for _ in range(_ACCEPTED_PER_TURN - 1):
            yield listener.dup()


async def _drain(gateway: Gateway, runner: web.AppRunner, drain_s: float) -> None:
    """Readiness fails, requests in flight finish and are recorded. What takes longer than the drain is left to another
    process, like after a crash."""
    gateway.draining.set()
    deadline = asyncio.get_running_loop().time() + drain_s
    await _until(lambda: gateway.registry.active == 0, deadline)
    gateway.controller.release()
    await runner.cleanup()
    await _until(lambda: len(gateway.registry) == 0, deadline)
    if len(gateway.registry):
        log.warning("requests_left_to_other_processes", count=len(gateway.registry))
    await gateway.background.drain(1.0)


async def _until(condition: Callable[[], bool], deadline: float) -> None:
    # Polled: an event on every change of the registry would sit on the request path.
    while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_DRAIN_POLL_S)
