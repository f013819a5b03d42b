"""One provider call, and the first phase of a request: the decided model with its own quick retries."""

import asyncio
import math
import random
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

from activities.delivery import Delivery, can_go_on
from activities.failures import canceled_outcome, failed_outcome, spent_usd
from activities.health import Deployment, DeploymentHealth, deployment_of
from activities.inflight import ChunkSink
from modelpilot.backoff import same_model_wait_s
from modelpilot.breaker import refuses_key
from modelpilot.catalogue import ModelSpec
from modelpilot.errors import ModelPilotError
from modelpilot.messages import CallPlan
from modelpilot.messages_text import CHARACTERS_PER_TOKEN
from modelpilot.outcome import Attempt, Outcome, Usage
from modelpilot.ports import ConfigurationSource, ProviderCall, ProviderClients
from modelpilot.pricing import call_cost_usd
from modelpilot.profile import RequestProfile
from modelpilot.provider_errors import ProviderError, Remedy
from modelpilot.quality_checks import answer_quality
from modelpilot.records import RequestKey
from modelpilot.retry_budget import RetryBudget
from modelpilot.wire.assembler import ChunkAssembler


@dataclass(frozen=True, slots=True)
class CallContext:
    """What every call of one request shares. `deadline` is monotonic seconds of the event loop's clock."""

    key: RequestKey
    specs: Mapping[str, ModelSpec]
    profile: RequestProfile
    plan: CallPlan
    deadline: float
    sink: ChunkSink | None


class ModelCaller:
    """Calls models through their providers' clients and turns what happens into attempts and outcomes."""

    def __init__(
        self,
        clients: ProviderClients,
        configuration: ConfigurationSource,
        health: DeploymentHealth | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        self._clients, self._configuration = clients, configuration
        self.health, self._budget = health or DeploymentHealth(), budget or RetryBudget()

    async def first_phase(self, context: CallContext) -> Outcome:
        """The decided model, and again after a transient failure, at most `same_model_retries` times.

        The outcome has every attempt and what is left of the total time.
        """
        attempts: tuple[Attempt, ...] = ()
        self._budget.note_call()
        for retry in range(context.plan.same_model_retries + 1):
            outcome = await self.watched_call(context, context.plan.model, seq=retry)
            attempts = (*attempts, *outcome.attempts)
            wait_s = _wait_before_repeat(outcome, retry, context)
            if wait_s is None or not self._may_repeat(context) or not await _slept(wait_s):
                break
        return _joined(outcome, attempts, context)

    def _may_repeat(self, context: CallContext) -> bool:
        deployment = deployment_of(context.key.user_id, context.plan, context.plan.model)
        return self.health.why_not(deployment) is None and self._budget.try_spend()

    async def watched_call(self, context: CallContext, model: str, seq: int) -> Outcome:
        """`call`, and its end is told to the deployment's breaker."""
        deployment = deployment_of(context.key.user_id, context.plan, model)
        began_s = self.health.clock()
        outcome = await self.call(context, model, seq)
        attempt = outcome.attempts[-1]
        self.health.record(deployment, attempt, began_s)
        if refuses_key(attempt.error_type, attempt.http_status) and await self._has_key(deployment):
            self.health.refuse_key(deployment, began_s)
        return outcome

    async def _has_key(self, deployment: Deployment) -> bool:
        """A server that needs no key cannot have refused one, whatever its status says."""
        try:
            return (await self._configuration.endpoint(deployment.user_id, deployment.provider)).api_key is not None
        except ModelPilotError:
            return False

    async def call(self, context: CallContext, model: str, seq: int) -> Outcome:
        """One call of `model`: an outcome with exactly one attempt, whatever happens, cancellation included.

        After a cancellation the current task goes on (its `cancel` is used up here), so that the outcome, and with
        it the cost, can still be recorded.
        """
        call = _Call(context, model, seq)
        try:
            async with asyncio.timeout_at(context.deadline):
                await self._stream(call)
        except asyncio.CancelledError:
            _go_on()
            return call.canceled()
        except TimeoutError:
            total = ProviderError("timeout_total", "the request's total time is over", Remedy.GIVE_UP)
            return call.failed(total)
        except ProviderError as error:
            return call.failed(error)
        except ModelPilotError as error:
            return call.failed(ProviderError("configuration", error.message, Remedy.FALL_BACK))
        return call.completed()

    async def _stream(self, call: "_Call") -> None:
        context = call.context
        provider_id, model = call.target()
        endpoint = await self._configuration.endpoint(context.key.user_id, provider_id)
        provider_call = ProviderCall(
            endpoint=endpoint,
            model=model,
            body=context.profile.body,
            first_token_ms=context.plan.first_token_ms,
            idle_ms=context.plan.idle_ms,
            request_id=context.key.request_id,
        )
        async with aclosing(self._clients.client_for(endpoint.kind).stream_chat(provider_call)) as chunks:
            async for chunk in chunks:
                await call.take(chunk)
        await call.end()


class _Call:
    """The state of one call: what has arrived, and what the client has been given of it."""

    def __init__(self, context: CallContext, model: str, seq: int) -> None:
        self.context, self.seq = context, seq
        self.spec = context.specs[model]
        self._assembler = ChunkAssembler()
        self._delivery = Delivery(context.sink, context.plan, seq, model)
        self._began, self._started_at = time.perf_counter(), time.time()
        self._ttft_ms: float | None = None

    def target(self) -> tuple[str, str]:
        """The provider to call and its name of the model; `callFormat` sends any model through OpenRouter."""
        if self.context.plan.call_format == "openrouter":
            return "openrouter", self.spec.openrouter_model or self.spec.id
        return self.spec.provider, self.spec.provider_model

    async def take(self, chunk: dict[str, Any]) -> None:
        """Assemble a chunk and pass it on."""
        self._assembler.add(chunk)
        if self._ttft_ms is None and self._assembler.content_started:
            self._ttft_ms = self._elapsed_ms()
        await self._delivery.take(chunk, content_started=self._assembler.content_started)

    async def end(self) -> None:
        """The answer is complete."""
        await self._delivery.end()

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000.0

    def _attempt(
        self, status: Literal["ok", "error", "canceled"], usage: Usage, error: ProviderError | None = None
    ) -> Attempt:
        # Providers bill what they generated: a call that produced nothing costs nothing.
        billed = status == "ok" or usage.output_tokens > 0
        return Attempt(
            seq=self.seq,
            model=self.spec.id,
            provider=self.spec.provider,
            status=status,
            error_type=error.error_type if error else ("canceled" if status == "canceled" else None),
            http_status=error.http_status if error else None,
            message=error.message if error else None,
            latency_ms=self._elapsed_ms(),
            ttft_ms=self._ttft_ms,
            cost_usd=call_cost_usd(self.spec, usage) if billed else 0.0,
            usage=usage,
            started_at=self._started_at,
        )

    def _usage(self) -> Usage:
        """What the provider reported, or an estimate where output came without a report."""
        if self._assembler.has_usage or not self._assembler.content_started:
            return self._assembler.usage
        output = math.ceil(len(self._assembler.text) / CHARACTERS_PER_TOKEN)
        return Usage(self.context.profile.prompt_tokens, max(output, 1))

    def completed(self) -> Outcome:
        """The whole answer arrived."""
        answer = self._assembler.result()
        usage = self._usage()
        attempt = self._attempt("ok", usage)
        return Outcome(
            status="completed",
            model=self.spec.id,
            provider=self.spec.provider,
            attempts=(attempt,),
            answer=answer,
            finish_reason=self._assembler.finish_reason,
            usage=usage,
            cost_usd=attempt.cost_usd,
            ttft_ms=self._ttft_ms,
            quality=answer_quality(self.context.profile.body, answer),
            segments=self.context.sink.transcript.segments() if self.context.sink is not None else (),
        )

    def failed(self, error: ProviderError) -> Outcome:
        """The call ended in `error`; another one may go on unless the client has what cannot be compared."""
        attempt = self._attempt("error", self._usage(), error)
        return failed_outcome((attempt,), error, can_fall_back=can_go_on(self.context.sink, self.context.plan))

    def canceled(self) -> Outcome:
        """The client went away while the answer was coming."""
        attempt = self._attempt("canceled", self._usage())
        return canceled_outcome((attempt,), self.spec.id, self.spec.provider)


def _wait_before_repeat(outcome: Outcome, retry: int, context: CallContext) -> float | None:
    if retry >= context.plan.same_model_retries or not outcome.can_fall_back or not outcome.transient:
        return None
    wait_s = same_model_wait_s(retry, outcome.retry_after_s, random.random())  # noqa: S311 - jitter, not secrecy
    remaining_s = context.deadline - asyncio.get_running_loop().time()
    return wait_s if wait_s is not None and wait_s < remaining_s else None


async def _slept(wait_s: float) -> bool:
    try:
        await asyncio.sleep(wait_s)
    except asyncio.CancelledError:
        _go_on()
        return False
    return True


def _go_on() -> None:
    # The cancellation has done its work; without this, later timeouts of this task would take it for their own.
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _joined(outcome: Outcome, attempts: tuple[Attempt, ...], context: CallContext) -> Outcome:
    remaining_ms = max((context.deadline - asyncio.get_running_loop().time()) * 1000.0, 0.0)
    return replace(outcome, attempts=attempts, cost_usd=spent_usd(attempts), remaining_ms=remaining_ms)
