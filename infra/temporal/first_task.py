"""First tasks of request workflows, carried out by whoever starts them.

A start may hand out the first task of its workflow at once ("eagerly"), and the task belongs to no process: its token
can be used by anybody, it survives a restart of the server, and nobody else sees the task until it times out. So a
request that has ended needs no worker: its workflow is started and completed with the commands that
`RouteRequestWorkflow` would have issued. A replay test holds every kind of such history against the class.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import orjson
from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import Command
from temporalio.api.common.v1 import Payload, Payloads, SearchAttributes, WorkflowType
from temporalio.api.enums.v1 import CommandType, EventType, WorkflowIdReusePolicy
from temporalio.api.sdk.v1 import UserMetadata, WorkflowTaskCompletedMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
    StartWorkflowExecutionRequest,
)
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from infra.crypto.keyring import Keyring
from infra.temporal.codec import sealed_payload
from infra.temporal.health import TemporalHealth, translated
from modelpilot import names
from modelpilot.errors import NotFound
from modelpilot.requests.outcome import Outcome, without_large_answer
from modelpilot.requests.records import OpenRequest, RequestKey
from modelpilot.requests.route_request import CallReport, RouteRequestInput, RouteRequestResult, StepReport
from modelpilot.wire.jsonb import dump

# A task that nobody renews is given to a worker after this; it is renewed well before.
TASK_TIMEOUT = timedelta(seconds=30)
# What the SDK would say of itself; the flags are those that its core sets in a first task.
_MADE_BY = WorkflowTaskCompletedMetadata(
    core_used_flags=[2, 4, 1, 3], sdk_name="temporal-python", sdk_version=version("temporalio")
)
# A healthy server answers in 5 to 10 ms; the client library would retry an absent one for ten seconds.
RPC_TIMEOUT = timedelta(seconds=3)
_NOT_OURS = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION})


class TemporalFirstTasks:
    """Implements `modelpilot.requests.ports.FirstTasks`."""

    def __init__(self, client: Client, keyring: Keyring, health: TemporalHealth) -> None:
        self._client, self._keyring, self._health = client, keyring, health

    async def start(
        self,
        key: RequestKey,
        request: bytes,
        read: RouteRequestInput,
        *,
        eager: bool = True,
        task_timeout: timedelta = TASK_TIMEOUT,
    ) -> bytes:
        """Start the workflow, which is the same start however often it is made; the token of its first task where that
        was not given to anybody else. Not `eager`: a worker gets the task."""
        asked = StartWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_id=key.workflow_id,
            workflow_type=WorkflowType(name=names.ROUTE_REQUEST_WORKFLOW),
            task_queue=TaskQueue(name=names.ROUTING_QUEUE),
            input=Payloads(payloads=[self._seal(request)]),
            workflow_id_reuse_policy=WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
            workflow_task_timeout=Duration(seconds=int(task_timeout.total_seconds())),
            identity=self._client.identity,
            request_id=hashlib.sha256(key.workflow_id.encode("utf-8", "surrogatepass")).hexdigest()[:32],
            request_eager_execution=eager,
            search_attributes=_search_attributes(read.searched_at_start()),
            user_metadata=UserMetadata(summary=self._seal(dump(read.summary))),
        )
        with self.watched():
            try:
                started = await self._client.workflow_service.start_workflow_execution(asked, timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status != RPCStatusCode.ALREADY_EXISTS:
                    raise
                return b""  # it is closed, or was started in another way
        return started.eager_workflow_task.task_token

    async def renew(self, token: bytes) -> bytes:
        """Keep a task for as long again; empty where it is not ours, or where something happened to the workflow that a
        worker has to see (the task is given away then)."""
        answer = await self._respond(token, [], again=True)
        if answer is None or not answer.workflow_task.task_token:
            return b""
        renewed: bytes = answer.workflow_task.task_token
        kinds = {event.event_type for event in answer.workflow_task.history.events}
        if EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED in kinds:
            await self.hand_over(renewed)
            return b""
        return renewed

    async def hand_over(self, token: bytes) -> None:
        """Give the task to a worker, which then runs the workflow."""
        await self._respond(token, [], again=True, keep=False)

    async def complete(self, token: bytes, request: RouteRequestInput, ended: OpenRequest) -> bool:
        """Carry out the task as the workflow itself would. False where it is not ours any more."""
        return await self._respond(token, self._commands(request, ended)) is not None

    async def is_closed(self, key: RequestKey) -> bool:
        """Whether the workflow has ended; one that never began has not."""
        try:
            with self.watched(key):
                described = await self._client.get_workflow_handle(key.workflow_id).describe(rpc_timeout=RPC_TIMEOUT)
        except NotFound:
            return False
        return described.status != WorkflowExecutionStatus.RUNNING

    async def _respond(
        self, token: bytes, commands: list[Command], *, again: bool = False, keep: bool = True
    ) -> RespondWorkflowTaskCompletedResponse | None:
        """Answer a task; None where it is not ours any more. `again`: there is another task behind it, which is ours
        where we `keep` it."""
        answer = RespondWorkflowTaskCompletedRequest(
            task_token=token,
            commands=commands,
            identity=self._client.identity,
            namespace=self._client.namespace,
            sdk_metadata=_MADE_BY,
            force_create_new_workflow_task=again,
            return_new_workflow_task=again and keep,
        )
        with self.watched():
            try:
                return await self._client.workflow_service.respond_workflow_task_completed(answer, timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status not in _NOT_OURS:
                    raise
                return None

    def _commands(self, request: RouteRequestInput, ended: OpenRequest) -> list[Command]:
        """Four steps and the call at once, then storing, what is searched, and the result."""
        if ended.outcome is None:
            raise ValueError("the request has not ended")
        outcome = without_large_answer(ended.outcome)
        times = _times(request, outcome, ended.completed_at)
        point = f"{ended.prompt_hash}/{outcome.model}" if outcome.status == "completed" else None
        results: dict[str, Any] = {step: request.steps.get(step, StepReport()) for step in names.ROUTE_STEPS[:4]}
        results["call_provider"] = CallReport(outcome)
        results["store_performance"] = StepReport(detail={"row": True, "point": point})
        commands = [
            self._marker(number, step, results[step], *times[step]) for number, step in enumerate(names.ROUTE_STEPS, 1)
        ]
        searched = Command(command_type=CommandType.COMMAND_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES)
        searched.upsert_workflow_search_attributes_command_attributes.search_attributes.MergeFrom(
            _search_attributes(request.searched_at_end(outcome))
        )
        done = Command(command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION)
        result = self._seal(dump(RouteRequestResult.of(outcome)))
        done.complete_workflow_execution_command_attributes.result.payloads.append(result)
        return [*commands, searched, done]

    def _marker(self, number: int, step: str, result: Any, began_s: float, ended_s: float) -> Command:
        """A local activity as the SDK's core records it."""
        about = {
            "seq": number,
            "attempt": 1,
            "activity_id": str(number),
            "activity_type": step,
            "complete_time": _timestamp(ended_s),
            "backoff": None,
            "original_schedule_time": _timestamp(began_s),
            # Storing was asked for when the others were done: in the second activation of the workflow.
            "activation_index": 2 if step == names.ROUTE_STEPS[-1] else 1,
        }
        command = Command(command_type=CommandType.COMMAND_TYPE_RECORD_MARKER)
        marker = command.record_marker_command_attributes
        marker.marker_name = "core_local_activity"
        marker.details["data"].payloads.append(_plain(about))
        marker.details["result"].payloads.append(self._seal(dump(result)))
        return command

    def _seal(self, json: bytes) -> Payload:
        return sealed_payload(self._keyring, json)

    @contextmanager
    def watched(self, key: RequestKey | None = None) -> Iterator[None]:
        """Translate what fails; that the service is away is believed at once. NotFound only where a key is given."""
        with translated(f"no workflow {key.workflow_id}" if key else ""):
            try:
                yield
            except RPCError as error:
                if error.status == RPCStatusCode.UNAVAILABLE:
                    self._health.report(up=False)
                raise


def _times(request: RouteRequestInput, outcome: Outcome, completed_at: float) -> dict[str, tuple[float, float]]:
    """When each step began and ended, Unix seconds."""
    times, clock = {}, request.created_at
    for step in names.ROUTE_STEPS[:4]:
        began = clock
        clock += request.steps.get(step, StepReport()).duration_ms / 1000.0
        times[step] = began, clock
    called = outcome.attempts[0].started_at if outcome.attempts else clock
    times["call_provider"] = called, completed_at
    times["store_performance"] = completed_at, max(completed_at, min(time.time(), completed_at + 1.0))
    return times


def _timestamp(at_s: float) -> dict[str, int]:
    return {"seconds": int(at_s), "nanos": int(at_s % 1 * 1e9)}


def _plain(value: Any, **metadata: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain", **metadata}, data=orjson.dumps(value))


def _search_attributes(texts: Mapping[str, str]) -> SearchAttributes:
    return SearchAttributes(indexed_fields={name: _plain(text, type=b"Keyword") for name, text in texts.items()})
