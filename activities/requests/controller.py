"""Carrying a request through its states in the gateway that received it: accept, call, end, record."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from activities.requests.acceptance import RETRY_AFTER_S, Acceptance
from activities.requests.call import CallContext, ModelCaller
from activities.requests.failures import canceled_outcome, made_up_outcome
from activities.requests.fallback import Fallbacks, NextAttempt, Run
from activities.requests.flight import BackgroundTasks, Flight, FlightRegistry, State
from activities.requests.recording import RETRY_S, Mac, build_record, history_point, record_in_the_end
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.ports import Leases, Ledger, RequestWorkflows
from modelpilot.requests.records import HistoryPoint, RequestKey, RequestRecord
from modelpilot.requests.route_request import FallbackInput, RouteRequestInput

log = structlog.get_logger(__name__)

# A workflow ends its request in the time that this has left; where nothing is heard of it so much later, Temporal is
# not what it says.
WORKFLOW_LATE_MS = 5_000.0

Result = TypeVar("Result")


class FlightController:
    """Runs flights. Nothing here raises into its callers: every flight ends in a record or in a refusal."""

    def __init__(
        self,
        *,
        registry: FlightRegistry,
        caller: ModelCaller,
        fallbacks: Fallbacks,
        acceptance: Acceptance,
        ledger: Ledger,
        leases: Leases,
        workflows: RequestWorkflows,
        background: BackgroundTasks,
        mac: Mac,
        learn: Callable[[HistoryPoint], None],
        retry_s: float = RETRY_S,
    ) -> None:
        self._registry, self.caller, self._fallbacks, self._acceptance = registry, caller, fallbacks, acceptance
        self._ledger, self._leases, self._workflows = ledger, leases, workflows
        self._background, self._mac, self._learn, self._retry_s = background, mac, learn, retry_s
        self.releasing = False

    def launch(self, flight: Flight) -> None:
        """Begin in a task of its own: the request's handler may go away without it."""
        self._registry.add(flight)
        # At once, not when the call begins: the next decision must already see that the probe is taken.
        flight.target = self.caller.choose(
            self.context(flight, flight.request.plan.total_ms), flight.request.plan.model
        )
        if flight.relaxed and not flight.named:
            flight.accept()
        self._background.spawn(self._acceptance.accept(flight))
        self._background.spawn(self._fly(flight))

    def abandon(self, flight: Flight) -> None:
        """Nobody waits any more: stop spending. The outcome, and what it cost, is still recorded."""
        if self.releasing or flight.abandoned or not flight.running:
            return  # not the client has gone, but this process is going; or there is nothing to stop
        flight.abandoned = True
        if flight.call is not None:
            flight.call.cancel()
        elif flight.state is State.FALLING_BACK:
            self._background.spawn(self._cancel_workflow(flight))

    def release(self) -> None:
        """This process ends before its requests do: stop their calls without recording an end, so that another process
        takes them over as after a crash."""
        self.releasing = True
        for flight in self._registry.running():
            if flight.call is not None and not flight.abandoned:
                flight.call.cancel()
            flight.refuse(_going())

    def context(self, flight: Flight, left_ms: float) -> CallContext:
        """The call context of a flight with `left_ms` of its total time left."""
        claim = partial(self._claim, flight)
        return CallContext.of(flight.request, flight.profile, flight.snapshot, left_ms, claim, flight.sink)

    async def _claim(self, flight: Flight, seq: int) -> bool:
        return await self._leases.claim_call(flight.key, seq, self._registry.instance)

    async def cancelable(self, flight: Flight, work: Coroutine[None, None, Result]) -> Result:
        """The result of a call, or of the wait for one, which a client that leaves cancels: then it says so itself.

        It runs in the current task, since a new one that is canceled before it has begun says nothing."""
        flight.call = asyncio.current_task()
        try:
            return await work
        finally:
            flight.call = None

    async def _fly(self, flight: Flight) -> None:
        try:
            outcome = await self._carried(flight)
            if outcome is not None:
                await self.end(flight, outcome)
        except Exception as error:
            log.exception("flight_failed", request_id=flight.key.request_id)
            text = f"internal error ({type(error).__name__})"
            await self.end(flight, made_up_outcome(flight.request, "internal_error", text))
        if flight.record is None:
            self._registry.remove(flight)
            flight.refuse(_going())
            if flight.unsure and not self.releasing:
                self._background.spawn(self._carry_late(flight))

    async def _carry_late(self, flight: Flight) -> None:
        """A commit whose answer was lost may have happened. Then the request is carried on, since nobody else does as
        long as this process lives, and whoever comes back with its name gets the answer."""
        is_open: bool | None = None
        while is_open is None and not self.releasing:
            try:
                is_open = await self._ledger.is_open(flight.key)
            except DependencyUnavailable:
                await asyncio.sleep(self._retry_s)
        if is_open and not self.releasing and self._registry.find(flight.key) is None:
            self.launch(flight.again())

    async def _carried(self, flight: Flight) -> Outcome | None:
        """The outcome of the whole request; None where it ends elsewhere."""
        plan = flight.request.plan
        if flight.named:
            await asyncio.wait({flight.accepted})
        if flight.state is State.REFUSED:
            return None
        if flight.abandoned:
            return canceled_outcome((), plan.model, flight.request.provider)
        flight.state = State.CALLING
        context = self.context(flight, plan.total_ms - flight.elapsed_ms())
        outcome = await self.cancelable(flight, self.caller.first_phase(context, flight.target))
        if self._leaves(flight, outcome):
            return None
        if flight.request.may_fall_back(outcome):
            return await self._fall_back(flight, outcome)
        await asyncio.wait({flight.accepted})
        return outcome

    def _leaves(self, flight: Flight, outcome: Outcome) -> bool:
        """Whether a call was canceled because this process ends, so that another one goes on with the request."""
        return outcome.status == "canceled" and not flight.abandoned

    async def _fall_back(self, flight: Flight, failed: Outcome) -> Outcome | None:
        """Hand the request over to its workflow; where Temporal is away, go on here. Where Postgres is, the first
        failure is the end: without the ledger nobody knows who else calls."""
        if flight.abandoned:
            return _left(failed)
        await asyncio.wait({flight.accepted})
        if not flight.in_ledger:
            return failed
        flight.failed = failed
        if not self.releasing:
            flight.state = State.FALLING_BACK
        try:
            held = await self._ledger.hand_over(flight.key, failed.attempts)
        except DependencyUnavailable:
            return None if self.releasing else failed
        return None if self.releasing else await self._handed_over(flight, failed, held)

    async def _handed_over(self, flight: Flight, failed: Outcome, held: bool) -> Outcome | None:
        if flight.abandoned:
            return _left(failed)
        if await self._followed(flight, held):
            return None
        async with flight.falling_back:
            if flight.record is not None:
                return None
            flight.degraded.append("temporal")
            outcome = await self._fallbacks.all(*self._attempting(flight, failed))
        if not self._leaves(flight, outcome):
            return outcome
        with suppress(DependencyUnavailable):
            await self._ledger.record_attempts(flight.key, outcome.attempts)
        return None

    def _attempting(self, flight: Flight, failed: Outcome) -> tuple[CallContext, Outcome, Run, Callable[[], bool]]:
        """What a fallback attempt of a flight needs; how much time is left, its own clock says."""
        context = self.context(flight, flight.request.plan.total_ms - flight.elapsed_ms())
        return context, failed, partial(self.cancelable, flight), lambda: flight.abandoned or self.releasing

    def is_open(self, key: RequestKey) -> bool:
        """Whether the request is in flight here, or has just ended here."""
        flight = self._registry.find(key)
        return flight is not None and flight.state is not State.REFUSED

    async def fall_back(self, work: FallbackInput) -> Outcome | NextAttempt:
        """The next fallback attempt of a flight, which ends with the outcome, committed where the ledger is there."""
        flight = self._registry.find(work.request.key)
        if flight is None:
            raise DependencyUnavailable("the request is not in flight here any more")
        async with flight.falling_back:
            found = (
                flight.record.outcome
                if flight.record is not None
                else await self._fallbacks.attempt(*self._attempting(flight, flight.failed or work.failed))
            )
        # Without a release it is the workflow that was canceled, by hand.
        leaves = isinstance(found, Outcome) and self.releasing and self._leaves(flight, found)
        if isinstance(found, Outcome) and not leaves:
            await self.end(flight, found)
            await asyncio.wait({flight.recorded}, timeout=self._acceptance.longest_s)
        return found

    async def _followed(self, flight: Flight, held: bool) -> bool:
        """Whether the workflow of a request carried it to its end: here, or in the process that Temporal gave a later
        attempt to. False where Temporal is away, or has not ended it in time."""
        until_ms = flight.request.plan.total_ms + WORKFLOW_LATE_MS
        try:
            if self._workflows.up:
                await self._workflows.hand_over(flight.request, held=held)
            while self._workflows.up and flight.elapsed_ms() < until_ms:
                await asyncio.wait({flight.ended}, timeout=self._retry_s)
                if flight.ended.done():
                    return True
                with suppress(DependencyUnavailable):
                    stored = await self._ledger.find(flight.key)
                    if stored is not None:
                        self._recorded(flight, stored.record)
        except DependencyUnavailable:
            pass
        log.warning("fallback_without_temporal", request_id=flight.key.request_id)
        return flight.ended.done()

    async def end(self, flight: Flight, outcome: Outcome) -> None:
        """The one end of a flight: its record is made once, committed, and told; where its client can come back for it
        in this order, but a paid answer does not wait for ever."""
        if flight.record is not None:
            return
        flight.record = self._record(flight, replace(outcome, can_fall_back=False))
        flight.state = State.ENDED
        committing = self._background.spawn(self._commit(flight, flight.record))
        try:
            if flight.kept:
                await asyncio.wait({committing}, timeout=self._acceptance.longest_s)
                if not committing.done():
                    flight.record = replace(flight.record, degraded=(*flight.record.degraded, "ledger"))
        finally:
            flight.settle()

    def _record(self, flight: Flight, outcome: Outcome) -> RequestRecord:
        degraded, elapsed_ms = tuple(flight.degraded), flight.elapsed_ms()
        return build_record(
            flight.request, flight.profile, outcome, mac=self._mac, elapsed_ms=elapsed_ms, degraded=degraded
        )

    async def _commit(self, flight: Flight, record: RequestRecord) -> None:
        def unaccepted() -> RouteRequestInput | None:
            return None if flight.in_ledger else flight.request

        await record_in_the_end(self._ledger, record, self._learnt(flight, record), unaccepted, self._retry_s)
        self._recorded(flight, record)

    def _learnt(self, flight: Flight, record: RequestRecord) -> HistoryPoint | None:
        try:
            point = None if flight.vector is None else history_point(record, flight.vector)
            if point is not None:
                self._learn(point)
        except Exception:
            log.exception("history_point_lost", request_id=flight.key.request_id)
            return None
        return point

    def _recorded(self, flight: Flight, record: RequestRecord) -> None:
        flight.record = flight.record or record
        flight.state = State.RECORDED
        flight.settle()
        if not flight.recorded.done():
            flight.recorded.set_result(None)
        self._registry.remove(flight)

    async def _cancel_workflow(self, flight: Flight) -> None:
        try:
            await self._workflows.cancel(flight.key)
        except DependencyUnavailable:
            log.warning("not_canceled", request_id=flight.key.request_id)  # its attempts end by themselves


def _left(failed: Outcome) -> Outcome:
    """No fallback for nobody."""
    return canceled_outcome(failed.attempts, failed.model, failed.provider)


def _going() -> DependencyUnavailable:
    text = "This gateway is shutting down; another process goes on with the request"
    return DependencyUnavailable(text, retry_after_s=RETRY_AFTER_S)
