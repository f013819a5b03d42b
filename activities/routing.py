"""The decision steps as Temporal activities: they join what the gateway has computed, and report it."""

from temporalio import activity

from activities.inflight import FlightRegistry
from modelpilot.requests.messages import StepInput, StepReport


class RoutingActivities:
    """`load_router`, `embed_prompt`, `query_history`, `score_models`.

    The decision is part of the workflow's input, so a recovery has nothing to compute here: it reports the decision
    as it was made.
    """

    def __init__(self, registry: FlightRegistry) -> None:
        self._registry = registry

    @activity.defn
    async def load_router(self, step: StepInput) -> StepReport:
        """The router's version and how many models it has."""
        return self._report("load_router", step)

    @activity.defn
    async def embed_prompt(self, step: StepInput) -> StepReport:
        """Which embedder was used."""
        return self._report("embed_prompt", step)

    @activity.defn
    async def query_history(self, step: StepInput) -> StepReport:
        """How many neighbours were found."""
        return self._report("query_history", step)

    @activity.defn
    async def score_models(self, step: StepInput) -> StepReport:
        """Which model was selected."""
        return self._report("score_models", step)

    def _report(self, name: str, step: StepInput) -> StepReport:
        flight = self._registry.get(step.nonce)
        if flight is not None and name in flight.reports:
            return flight.reports[name]
        if step.request is None:
            return StepReport(missing=True)
        decision = step.request.decision
        return StepReport(
            joined=False,
            detail={"decided": decision.get("selectedModel"), "configVersion": step.request.config_version},
        )
