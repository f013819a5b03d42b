"""Carrying a request through its phases in this process: call, conclude, record. Used by the gateway's fast path, by
the recovery of another process's request, and by the fallback activity."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import structlog

from activities.requests.call import CallContext, ModelCaller
from activities.requests.failures import canceled_outcome, unacknowledged_outcome, with_earlier
from activities.requests.flight import BackgroundTasks, Flight
from activities.requests.recording import Mac, build_record
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.ports import Ledger
from modelpilot.requests.records import RequestRecord
from modelpilot.requests.route_request import RouteRequestInput

log = structlog.get_logger(__name__)

# How long a commit is tried again by itself while Postgres is away; after that the workflow's store step takes over.
COMMIT_RETRY_WAIT_S = 0.25
COMMIT_TRIES = 40


class FlightController:
    """Runs flights. Nothing here raises into its callers: every end of a flight is an Outcome."""

    def __init__(
        self,
        caller: ModelCaller,
        ledger: Ledger,
        background: BackgroundTasks,
        mac: Mac,
        commit_retry_wait_s: float = COMMIT_RETRY_WAIT_S,
    ) -> None:
        self.caller, self._ledger = caller, ledger
        self._background, self._mac = background, mac
        self._commit_retry_wait_s = commit_retry_wait_s
        self._released = False

    def launch(self, flight: Flight) -> None:
        """Begin the first phase in a task of its own: the request's handler may go away without it."""
        plan = flight.request.plan
        # At once, not when the call begins: the next decision must already see that the probe is taken.
        flight.target = self.caller.choose(self.context(flight, plan.total_ms), plan.model)
        flight.task = self._background.spawn(self._fly(flight))

    def abandon(self, flight: Flight) -> None:
        """The client is gone: stop spending. The outcome, and what it cost, is still recorded."""
        if self._released:
            return  # not the client has gone, but this process is going
        flight.abandoned = True
        if flight.task is not None and flight.calling:
            flight.task.cancel()

    def release(self, flights: Iterable[Flight]) -> None:
        """This process ends before these requests do: stop their calls without recording an end, so that another
        process takes them over as after a crash."""
        self._released = True
        for flight in flights:
            if flight.task is not None and flight.calling:
                flight.task.cancel()

    async def _fly(self, flight: Flight) -> None:
        outcome = await self._first_phase(flight)
        if self._released and outcome.status == "canceled" and not flight.abandoned:
            return
        if not await asyncio.shield(flight.acknowledged):
            await self._orphan(flight, unacknowledged_outcome(outcome))
        elif not flight.request.may_fall_back(outcome):
            await self.conclude(flight, outcome)
        elif flight.abandoned:
            await self.conclude(flight, canceled_outcome(outcome.attempts, outcome.model, outcome.provider))
        else:
            await self.keep_attempts(flight.request, outcome)
            flight.first.set_result(outcome)

    async def _orphan(self, flight: Flight, outcome: Outcome) -> None:
        """Temporal does not have the request, so it was not accepted, and its id stays free for a repeat. What a
        provider call cost by then is kept under an id of its own."""
        flight.settle(outcome)
        if outcome.cost_usd:
            request = replace(flight.request, request_id=f"orphan_{flight.request.nonce}")
            record = self._record(flight, request, outcome)
            try:
                await self._ledger.record(record)
            except DependencyUnavailable:
                log.error("orphan_cost_not_recorded", request_id=flight.key.request_id, cost_usd=outcome.cost_usd)

    def _record(self, flight: Flight, request: RouteRequestInput, outcome: Outcome) -> RequestRecord:
        return build_record(
            request,
            flight.profile,
            outcome,
            mac=self._mac,
            elapsed_ms=flight.elapsed_ms(),
            degraded=tuple(flight.degraded),
        )

    async def _first_phase(self, flight: Flight) -> Outcome:
        plan = flight.request.plan
        provider = str(plan.specs[plan.model]["provider"])
        try:
            if flight.abandoned or (flight.commit_first and not await asyncio.shield(flight.acknowledged)):
                return canceled_outcome((), plan.model, provider)
            flight.calling = True
            context = self.context(flight, plan.total_ms - flight.elapsed_ms())
            return await self.caller.first_phase(context, flight.target)
        except asyncio.CancelledError:
            return canceled_outcome((), plan.model, provider)  # before the provider was called at all
        except Exception as error:
            log.exception("first_phase_failed", request_id=flight.key.request_id)
            text = f"internal error ({type(error).__name__})"
            return Outcome("failed", plan.model, provider, error_code="internal_error", error_message=text)
        finally:
            flight.calling = False

    def context(self, flight: Flight, left_ms: float) -> CallContext:
        """The call context of a flight with `left_ms` of its total time left."""
        return CallContext(
            key=flight.key,
            specs=flight.snapshot.models,
            profile=flight.profile,
            plan=flight.request.plan,
            deadline=asyncio.get_running_loop().time() + max(left_ms, 0.0) / 1000.0,
            sink=flight.sink,
            providers=flight.snapshot.providers,
        )

    async def conclude(self, flight: Flight, outcome: Outcome) -> None:
        """Commit the terminal row and settle the flight; with `commit_first` in exactly this order."""
        if flight.record is None:  # a request ends once: whatever comes later does not replace it
            flight.record = self._record(flight, flight.request, outcome)
        if not flight.commit_first:
            flight.settle(flight.record.outcome)
        if not await self._committed(flight):
            log.error("ledger_unavailable", request_id=flight.key.request_id)
        flight.settle(flight.record.outcome)

    async def ensure_recorded(self, flight: Flight, outcome: Outcome | None) -> RequestRecord:
        """The terminal row, committed. Raises DependencyUnavailable while Postgres is away."""
        if flight.record is None:
            await self._end(flight, outcome)
        if not flight.recorded.done():
            await self._commit(flight)
        if flight.record is None:  # conclude always sets it
            raise RuntimeError("a concluded flight has no record")
        return flight.record

    async def _end(self, flight: Flight, outcome: Outcome | None) -> None:
        """Wait for the flight's end, or end it with the `outcome` that the workflow came to."""
        if outcome is not None and flight.calling:
            # The workflow was canceled or ran out of time during the call, which ends now, with what it cost.
            self.abandon(flight)
            outcome = None
        if outcome is None:
            await asyncio.shield(flight.final)
            return
        stored = await self._ledger.find(flight.key)
        if stored is None:
            # The workflow knows nothing of fallback attempts that failed in between, but they cost as well.
            attempts = await self._ledger.find_attempts(flight.key)
            await self.conclude(flight, with_earlier(outcome, attempts))
        else:  # another process ended it, and its row has the whole answer
            flight.record = stored.record
            flight.recorded.set_result(None)
            flight.settle(stored.record.outcome)

    async def _committed(self, flight: Flight) -> bool:
        for _ in range(COMMIT_TRIES):
            try:
                await self._commit(flight)
            except DependencyUnavailable:
                await asyncio.sleep(self._commit_retry_wait_s)
            else:
                return True
        return False

    async def _commit(self, flight: Flight) -> None:
        if flight.record is not None and not flight.recorded.done():
            await self._ledger.record(flight.record)
            if not flight.recorded.done():
                flight.recorded.set_result(None)

    async def keep_attempts(self, request: RouteRequestInput, outcome: Outcome) -> None:
        """Write attempts of a request that goes on. Without Postgres the workflow's history is their only record."""
        try:
            await self._ledger.record_attempts(request.key, outcome.attempts)
        except DependencyUnavailable:
            log.warning("attempts_not_recorded", request_id=request.request_id)
