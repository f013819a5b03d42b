"""Starting a request's workflow eagerly, and watching it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import structlog
from prometheus_client import Counter
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from infra.temporal.health import TemporalHealth, translated
from modelpilot import names
from modelpilot.errors import Conflict, NotFound
from modelpilot.requests.records import RequestKey
from modelpilot.requests.route_request import RouteRequestInput

log = structlog.get_logger(__name__)

# A healthy server acknowledges in 5 to 10 ms; the client library would retry an absent one for ten seconds.
START_TIMEOUT = timedelta(seconds=3)
ASK_TIMEOUT = timedelta(seconds=2)
# A dead gateway is noticed when its workflow task times out.
TASK_TIMEOUT = timedelta(seconds=10)

EAGER_DENIED = Counter("modelpilot_eager_start_denied_total", "Workflow starts whose first task the server kept")

_ROUTER_ID = SearchAttributeKey.for_keyword(names.SEARCH_ROUTER_ID)
_MODEL = SearchAttributeKey.for_keyword(names.SEARCH_MODEL)
_PROVIDER = SearchAttributeKey.for_keyword(names.SEARCH_PROVIDER)


class TemporalStarter:
    """The `WorkflowStarter` of requests over a Temporal client. What fails raises DependencyUnavailable."""

    def __init__(self, client: Client, health: TemporalHealth, task_timeout: timedelta = TASK_TIMEOUT) -> None:
        self._client, self._health, self.task_timeout = client, health, task_timeout

    def check_up(self) -> None:
        """Raise DependencyUnavailable at once when the service is known to be down."""
        self._health.check_up()

    async def start(self, request: RouteRequestInput) -> None:
        """Start eagerly: the first workflow task comes back with the acknowledgement.

        Raises Conflict where the workflow was started before.
        """
        try:
            with self._watched():
                handle = await self._client.start_workflow(
                    names.ROUTE_REQUEST_WORKFLOW,
                    request,
                    id=request.key.workflow_id,
                    task_queue=names.ROUTING_QUEUE,
                    request_eager_start=True,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    task_timeout=self.task_timeout,
                    rpc_timeout=START_TIMEOUT,
                    search_attributes=_search_attributes(request),
                    static_summary=_summary(request),
                )
        except WorkflowAlreadyStartedError as error:
            raise Conflict("a workflow of this request was started before") from error
        self._health.report(up=True)
        if not getattr(handle, "__temporal_eagerly_started", False):
            EAGER_DENIED.inc()

    async def wait_closed(self, key: RequestKey) -> None:
        """Wait for the workflow's end, however it ends. Raises NotFound."""
        try:
            with self._watched(key):
                await self._handle(key).result()
        except WorkflowFailureError:
            log.warning("workflow_failed", workflow_id=key.workflow_id)

    async def is_running(self, key: RequestKey) -> bool:
        """Whether a workflow of this request is open."""
        try:
            with self._watched(key):
                described = await self._handle(key).describe(rpc_timeout=ASK_TIMEOUT)
        except NotFound:
            return False
        return described.status == WorkflowExecutionStatus.RUNNING

    async def cancel(self, key: RequestKey) -> None:
        """Ask the workflow to stop spending; one that is gone needs no canceling."""
        with suppress(NotFound), self._watched(key):
            await self._handle(key).cancel(rpc_timeout=ASK_TIMEOUT)

    async def open_workflow_ids(self) -> list[str]:
        """The ids of all open request workflows."""
        query = f"WorkflowType = '{names.ROUTE_REQUEST_WORKFLOW}' AND ExecutionStatus = 'Running'"
        with self._watched():
            return [found.id async for found in self._client.list_workflows(query, rpc_timeout=ASK_TIMEOUT)]

    def _handle(self, key: RequestKey) -> "WorkflowHandle[object, object]":
        return self._client.get_workflow_handle(key.workflow_id)

    @contextmanager
    def _watched(self, key: RequestKey | None = None) -> Iterator[None]:
        """Translate what fails; that the service is away is believed at once. NotFound only where a key is given."""
        with translated(f"no workflow {key.workflow_id}" if key else ""):
            try:
                yield
            except RPCError as error:
                if error.status == RPCStatusCode.UNAVAILABLE:
                    self._health.report(up=False)
                raise


def _search_attributes(request: RouteRequestInput) -> TypedSearchAttributes:
    model = request.plan.model
    return TypedSearchAttributes(
        [
            SearchAttributePair(_ROUTER_ID, request.router_id or "(direct)"),
            SearchAttributePair(_MODEL, model),
            SearchAttributePair(_PROVIDER, str(request.plan.specs[model]["provider"])),
        ]
    )


def _summary(request: RouteRequestInput) -> str:
    """One line for the Web UI, encrypted like any payload: what was asked of whom."""
    kind = request.decision.get("requestType", "chat")
    how = "streamed" if request.stream else "whole"
    return f"{request.router_id or 'direct'} → {request.plan.model} · {kind} · {how}"
