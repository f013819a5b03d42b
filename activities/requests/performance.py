"""The last step: the terminal row is committed, and the vector history has learnt from the request."""

import time

import structlog
from temporalio import activity

from activities.requests.controller import FlightController
from activities.requests.decision import DecisionSteps
from activities.requests.flight import Flight, FlightRegistry
from activities.requests.recording import history_point
from activities.requests.recovery import Recovery
from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.messages import StepInput, StepReport
from modelpilot.requests.ports import History, Ledger
from modelpilot.requests.records import HistoryPoint, RequestRecord, Vector

log = structlog.get_logger(__name__)


class PerformanceActivities:
    """`store_performance`: local where all goes well, ordinary with retries where Postgres is away."""

    def __init__(
        self,
        registry: FlightRegistry,
        controller: FlightController,
        recovery: Recovery,
        steps: DecisionSteps,
        history: History,
        ledger: Ledger,
    ) -> None:
        self._registry, self._controller, self._recovery = registry, controller, recovery
        self._steps, self._history, self._ledger = steps, history, ledger

    @activity.defn
    async def store_performance(self, step: StepInput) -> StepReport:
        """Idempotent: the row by its request id, the point by its own id. Raises while Postgres is away."""
        began = time.perf_counter()
        flight = self._registry.get(step.nonce)
        if flight is None:
            if step.request is None or step.outcome is None:
                return StepReport(missing=True)
            flight = self._registry.find(step.request.key)
            flight = flight or await self._recovery.adopt(step.request, step.outcome)
        record = await self._controller.ensure_recorded(flight, step.outcome)
        point = await self._point(flight, record)
        stored = point is not None and await self._store(point)
        flight.stored_at = time.monotonic()
        detail = {"row": True, "point": point.point_id if point else None, "outbox": bool(point) and not stored}
        return StepReport(duration_ms=round((time.perf_counter() - began) * 1000.0, 3), detail=detail)

    async def _point(self, flight: Flight, record: RequestRecord) -> HistoryPoint | None:
        vector: Vector | None = flight.vector
        if vector is None:
            try:
                vector = await self._steps.embed(flight.profile.text)
            except DependencyUnavailable:
                log.warning("history_point_lost", request_id=record.key.request_id)
                return None
        return history_point(record, vector)

    async def _store(self, point: HistoryPoint) -> bool:
        try:
            await self._history.store(point)
        except DependencyUnavailable:
            await self._ledger.put_outbox(point)
            return False
        return True
