"""What a gateway does beside serving: keep its lease alive, and forget flights whose workflows are closed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from prometheus_client import Gauge

from activities.requests.flight import FlightRegistry
from modelpilot.errors import DependencyUnavailable

log = structlog.get_logger(__name__)

SWEEP_EVERY_S = 10.0

FLIGHTS = Gauge("modelpilot_flights", "Requests that this gateway holds an in-flight entry for")


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
