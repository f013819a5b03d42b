"""Where a request is accepted: by a commit in Postgres, or by Temporal while Postgres is away."""

import asyncio

import structlog

from activities.requests.flight import BackgroundTasks, Flight
from modelpilot.errors import Conflict, DependencyUnavailable, ModelPilotError
from modelpilot.requests.ports import Ledger, RequestWorkflows, StoreHealth

log = structlog.get_logger(__name__)

# A healthy commit takes milliseconds; after this, Temporal is asked as well.
PATIENCE_S = 1.0
# An answer that was paid for does not wait longer than this for being accepted or recorded.
LONGEST_S = 5.0
RETRY_AFTER_S = 1.0


class Acceptance:
    """Makes accepted requests safe: whatever happens to this process, they end."""

    def __init__(
        self,
        ledger: Ledger,
        postgres: StoreHealth,
        workflows: RequestWorkflows,
        background: BackgroundTasks,
        patience_s: float = PATIENCE_S,
        longest_s: float = LONGEST_S,
    ) -> None:
        self._ledger, self._postgres, self._workflows, self._background = ledger, postgres, workflows, background
        self._patience_s, self.longest_s = patience_s, longest_s

    def check(self, *, needs_ledger: bool) -> None:
        """Raise DependencyUnavailable where a request could not be accepted now, so that nothing is spent.

        A client's own name for a request, and a body that Temporal cannot carry, need the ledger.
        """
        if not self._postgres.up and (needs_ledger or not self._workflows.up):
            raise DependencyUnavailable("Postgres is not available; nothing was spent", retry_after_s=RETRY_AFTER_S)

    async def accept(self, flight: Flight) -> None:
        """Resolve the flight's `accepted`. One with a name is refused where the ledger does not take it; another one
        has been begun, so that its answer leaves in any case, and says what was missing."""
        if flight.named:
            await self._accept_named(flight)
            return
        deadline = asyncio.get_running_loop().time() + self.longest_s
        committing = self._background.spawn(self._commit(flight))
        if self._postgres.up:
            await asyncio.wait({committing}, timeout=self._patience_s)
        if not flight.in_ledger and flight.request.body is not None and await self._started(flight):
            return
        if not flight.in_ledger:
            await asyncio.wait({committing}, timeout=max(deadline - asyncio.get_running_loop().time(), 0.0))
        if not flight.in_ledger:
            flight.degraded.append("ledger")
        flight.accept()

    async def _accept_named(self, flight: Flight) -> None:
        try:
            if await self._committed(flight):
                flight.in_ledger = True
                flight.accept()
            else:
                flight.refuse(Conflict("another gateway accepted this request a moment earlier"))
        except DependencyUnavailable as refusal:
            flight.unsure = True
            flight.refuse(refusal)
        except ModelPilotError as refusal:
            flight.refuse(refusal)
        except Exception:
            log.exception("not_accepted", request_id=flight.key.request_id)
            flight.refuse(DependencyUnavailable("The request could not be kept; nothing was spent"))

    async def _commit(self, flight: Flight) -> None:
        if not self._postgres.up:
            return  # its row comes with the outcome
        try:
            await self._committed(flight)
        except ModelPilotError as error:
            log.warning("not_accepted", request_id=flight.key.request_id, error=error.message)
        except Exception:
            log.exception("not_accepted", request_id=flight.key.request_id)
        else:
            flight.in_ledger = True

    async def _committed(self, flight: Flight) -> bool:
        if flight.request.body is None:
            await self._ledger.put_body(flight.key, flight.body)
        return await self._ledger.accept(flight.request)

    async def _started(self, flight: Flight) -> bool:
        if not self._workflows.up:
            return False
        try:
            await self._workflows.accept(flight.request)
        except DependencyUnavailable:
            return False
        except Exception:
            log.exception("not_started", request_id=flight.key.request_id)
            return False
        flight.degraded.append("postgres")
        flight.accept()
        return True
