"""One provider call: where it goes, what came of it, and what is learnt from that."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from activities.requests.balancer import LoadBalancer
from activities.requests.delivery import Delivery, can_go_on
from activities.requests.deployments import DeploymentHealth, Target
from activities.requests.failures import canceled_outcome, failed_outcome, with_earlier
from activities.requests.first_phase import FirstPhase
from activities.requests.manners import LearntManners, Prepared
from activities.requests.sink import ChunkSink
from modelpilot.chat.profile import RequestProfile
from modelpilot.errors import DependencyUnavailable, ModelPilotError
from modelpilot.learning.quality import answer_quality
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import Deployment, ProviderFacts, deployment_specs, usable_deployments
from modelpilot.providers.fitting import dishonours
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import service_of
from modelpilot.providers.metering import NO_CHARGE, charge, counted
from modelpilot.providers.pricing import bill_of
from modelpilot.providers.prompt_caches import PromptCaches
from modelpilot.providers.retries import RetryBudget
from modelpilot.providers.token_ratios import Measure, TokenRatios
from modelpilot.requests.outcome import Attempt, Outcome, ProviderError, Remedy, Usage
from modelpilot.requests.ports import ConfigurationSource, ProviderCall, ProviderClients
from modelpilot.requests.records import RequestKey, RouterSnapshot
from modelpilot.requests.route_request import CallPlan, RouteRequestInput
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.chunks import Chunk

log = structlog.get_logger(__name__)

# A person reads along in no stream here, so that a read every so often, and one at the end, does.
GATHER_MS = 50


# Commits that this process makes call `seq`; false where it must not. Raises DependencyUnavailable.
Claim = Callable[[int], Awaitable[bool]]


async def unclaimed(_: int) -> bool:
    """The claim of calls that nobody else could make."""
    return True


@dataclass(frozen=True, slots=True)
class CallContext:
    """What every call of one request shares. `deadline` is monotonic seconds of the event loop's clock; `claim` is
    asked before every call but the first one of whoever accepted the request."""

    key: RequestKey
    specs: Mapping[str, ModelSpec]
    profile: RequestProfile
    plan: CallPlan
    deadline: float
    sink: ChunkSink | None
    providers: Mapping[str, ProviderFacts] = field(default_factory=dict)
    claim: Claim = unclaimed
    found: dict[str, tuple[Deployment, ...]] = field(default_factory=dict, init=False)  # deployments by model

    @classmethod
    def of(
        cls,
        request: RouteRequestInput,
        profile: RequestProfile,
        snapshot: RouterSnapshot,
        left_ms: float,
        claim: Claim,
        sink: ChunkSink | None = None,
    ) -> "CallContext":
        """The context of calls that have `left_ms` of the request's total time left."""
        deadline = asyncio.get_running_loop().time() + max(left_ms, 0.0) / 1000.0
        return cls(request.key, snapshot.models, profile, request.plan, deadline, sink, snapshot.providers, claim)

    async def may_make(self, seq: int) -> bool:
        """Whether this process makes call `seq`; without the ledger nobody makes another one."""
        try:
            return await self.claim(seq)
        except DependencyUnavailable:
            return False
        except asyncio.CancelledError:
            _go_on()
            return False

    def deployments(self, model: str) -> tuple[Deployment, ...]:
        """Where `model` can be called for this request; never none, since an accepted request is tried."""
        if model not in self.found:
            spec, call_format = self.specs[model], self.plan.call_format
            why_not = dishonours(self.profile.body, strict=self.plan.strict_parameters)
            usable = usable_deployments(spec, call_format, self.providers, why_not).usable
            self.found[model] = usable or usable_deployments(spec, call_format).usable
        return self.found[model]

    def kind(self, deployment: Deployment) -> ProviderKind | None:
        """The kind of provider that a deployment is at; None: not known."""
        facts = self.providers.get(deployment.provider)
        return None if facts is None else facts.kind

    def remaining_s(self) -> float:
        """What is left of the request's total time, seconds; negative when it is over."""
        return self.deadline - asyncio.get_running_loop().time()


class CallState:
    """One call: what has arrived, and what the client has been given of it. `measure`: how the model counts."""

    def __init__(self, context: CallContext, target: Target, seq: int, measure: Measure) -> None:
        self.measure = measure
        self.reported: Usage | None = None  # by the provider, of the whole answer
        self.context, self.seq, self.deployment = context, seq, target.deployment
        self.spec = context.specs[target.model]
        self._assembler = ChunkAssembler()
        sink = context.sink
        self._delivery = None if sink is None else Delivery(sink, context.plan, seq, target.model, self._assembler)
        self._began, self._started_at = time.perf_counter(), time.time()
        self._ttft_ms: float | None = None
        self.prepared: Prepared | None = None

    async def take(self, chunks: list[Chunk]) -> None:
        """Assemble chunks and pass them on."""
        self._assembler.extend(chunks)
        if self._ttft_ms is None and self._assembler.content_started:
            self._ttft_ms = self._elapsed_ms()
        if self._delivery is not None:
            await self._delivery.take(chunks)

    async def end(self) -> None:
        """The answer is complete."""
        if self._delivery is not None:
            await self._delivery.end()

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000.0

    def _attempt(
        self,
        status: Literal["ok", "error", "canceled"],
        counted: tuple[Usage, str | None],
        error: ProviderError | None = None,
    ) -> Attempt:
        usage, estimated = counted
        # Providers bill what they generated: a call that produced nothing costs nothing.
        billed = status == "ok" or usage.output_tokens > 0
        tier = self.spec.known_tier(self._assembler.service_tier)
        bill = bill_of(self.spec, usage, self.context.kind(self.deployment), tier)
        charged = charge(bill, self._assembler.reported, estimated) if billed else NO_CHARGE
        return Attempt(
            seq=self.seq,
            model=self.spec.id,
            provider=self.deployment.provider,
            status=status,
            error_type=error.error_type if error else ("canceled" if status == "canceled" else None),
            http_status=error.http_status if error else None,
            message=error.message if error else None,
            latency_ms=self._elapsed_ms(),
            ttft_ms=self._ttft_ms,
            usage=usage,
            started_at=self._started_at,
            deployment=self.deployment.label,
            **charged._asdict(),
        )

    def _usage(self, *, whole: bool = False) -> tuple[Usage, str | None]:
        """What the provider reported, with our estimate where that cannot be, and then why."""
        found = counted(self._assembler, *self.measure, self.spec.limits.context_window, whole=whole)
        if whole and found[1] is None:
            self.reported = found[0]
        return found

    def _quality(self, answer: dict[str, Any]) -> float | None:
        try:
            return answer_quality(self.context.profile.body, answer)
        except Exception:
            # The answer was paid for: the client gets it, whatever our own arithmetic makes of it.
            log.exception("quality_check_failed", request_id=self.context.key.request_id, model=self.spec.id)
            return None

    def completed(self) -> Outcome:
        """The whole answer arrived."""
        answer = self._assembler.result()
        attempt = self._attempt("ok", self._usage(whole=True))
        return Outcome(
            status="completed",
            model=self.spec.id,
            provider=self.deployment.provider,
            attempts=(attempt,),
            answer=answer,
            finish_reason=self._assembler.finish_reason,
            usage=attempt.usage,
            cost_usd=attempt.cost_usd,
            estimated=attempt.estimated,
            ttft_ms=self._ttft_ms,
            quality=self._quality(answer),
            segments=self.context.sink.transcript.segments() if self.context.sink is not None else (),
            adjusted=self.prepared.adjusted if self.prepared is not None else (),
        )

    def failed(self, error: ProviderError) -> Outcome:
        """The call ended in `error`; another one may go on unless the client has what cannot be compared."""
        attempt = self._attempt("error", self._usage(), error)
        return failed_outcome((attempt,), error, can_fall_back=can_go_on(self.context.sink, self.context.plan))

    def canceled(self) -> Outcome:
        """The client went away while the answer was coming."""
        attempt = self._attempt("canceled", self._usage())
        return canceled_outcome((attempt,), self.spec.id, self.deployment.provider)


# A wait of so many seconds; false where it was canceled.
Sleep = Callable[[float], Coroutine[None, None, bool]]


class ModelCaller:
    """Calls models through their providers' clients and turns what happens into attempts and outcomes."""

    def __init__(
        self,
        clients: ProviderClients,
        configuration: ConfigurationSource,
        health: DeploymentHealth | None = None,
        budget: RetryBudget | None = None,
        draw: random.Random | None = None,
        sleep: Sleep | None = None,
        caches: PromptCaches | None = None,
        ratios: TokenRatios | None = None,
    ) -> None:
        self._clients, self._configuration = clients, configuration
        self.sleep = sleep or slept
        self.health, self.budget = health or DeploymentHealth(), budget or RetryBudget()
        self.learnt = LearntManners()
        self.balancer = LoadBalancer(configuration, self.health, draw)
        self._caches = caches or PromptCaches()
        self.ratios = ratios or TokenRatios()

    def choose(self, context: CallContext, model: str) -> Target:
        """The deployment for the next call of `model`, reserved."""
        deployments, prefix, user_id = context.deployments(model), context.profile.prefix, context.key.user_id
        warm: dict[Deployment, int] = {}
        if prefix and len(deployments) > 1:
            places = self._caches.warm(user_id, prefix).items()
            warm = {at: warmth.tokens for (name, at), warmth in places if name == model and warmth.own}
        return self.balancer.choose(user_id, model, deployments, warm)

    def may_call(self, context: CallContext, model: str) -> bool:
        """Whether any deployment of `model` is healthy, and one has not just refused what this request asks for."""
        return self.is_healthy(context, model) and not self.has_refused(context, model)

    def is_healthy(self, context: CallContext, model: str) -> bool:
        """Whether any deployment of `model` is healthy."""
        return self.balancer.may_be_called(context.key.user_id, model, context.deployments(model))

    def has_refused(self, context: CallContext, model: str) -> bool:
        """Whether `model` has just refused what this request asks for, wherever it is called."""
        deployments, body = context.deployments(model), context.profile.body
        return self.health.refusals.why_none(context.key.user_id, model, deployments, body) is not None

    def has_alternative(self, context: CallContext, outcome: Outcome) -> bool:
        """Whether the model whose call failed has a healthy deployment besides the one that was called."""
        failed = outcome.attempts[-1].deployment if outcome.attempts else ""
        others = [deployment for deployment in context.deployments(outcome.model) if deployment.label != failed]
        return self.balancer.may_be_called(context.key.user_id, outcome.model, others)

    async def look_up(self, user_id: str, plan: CallPlan) -> dict[str, ProviderFacts]:
        """What is known now of the providers of a plan's models; a provider that cannot be called says why."""
        specs = [ModelSpec.model_validate(spec) for spec in plan.specs.values()]
        wanted = {each.provider for spec in specs for each in deployment_specs(spec, plan.call_format)}
        return {provider: await self._facts(user_id, provider) for provider in sorted(wanted)}

    async def _facts(self, user_id: str, provider: str) -> ProviderFacts:
        try:
            endpoint = await self._configuration.endpoint(user_id, provider)
        except ModelPilotError as error:
            return ProviderFacts(unavailable=error.message)
        service = service_of(endpoint.base_url)
        return ProviderFacts(endpoint.kind, endpoint.key_count, service=service, parameters=endpoint.parameters)

    async def first_phase(self, context: CallContext, chosen: Target | None = None) -> Outcome:
        """The decided model, at the deployment `chosen` before or now, and whom a refusal of it goes on to (see
        `FirstPhase`)."""
        return await FirstPhase(self, context).run(chosen or self.choose(context, context.plan.model))

    def note_refusal(self, context: CallContext, target: Target, outcome: Outcome) -> None:
        """Remember that the target refused what this request asks for."""
        place, body = (target.user_id, target.model, target.deployment), context.profile.body
        any_value = outcome.refused == "parameter" or "unsupported" in (outcome.provider_code or "")
        self.health.refusals.remember(*place, body, outcome.error_param, any_value=any_value)

    async def watched_call(self, context: CallContext, target: Target, seq: int) -> Outcome:
        """As `call`; what is known of the deployment is updated by how it ended."""
        began_s = self.health.clock()
        outcome = await self.call(context, target.model, seq, target)
        attempt = outcome.attempts[-1]
        if attempt.status == "ok" and context.profile.prefix:
            place, kind = (target.model, target.deployment), context.kind(target.deployment)
            self._caches.note(context.key.user_id, place, kind, context.profile.prefix, attempt.usage)
        try:
            await self.balancer.learn(
                target,
                attempt,
                began_s,
                retry_after_s=outcome.retry_after_s,
                refused=outcome.refused,
                alone=len(context.deployments(target.model)) == 1,
                hasty=context.plan.is_hasty(attempt.error_type),
            )
        except asyncio.CancelledError:
            _go_on()
            return with_earlier(canceled_outcome((), outcome.model, outcome.provider), outcome.attempts)
        if outcome.refused == "parameter":
            self.note_refusal(context, target, outcome)
        return outcome

    async def call(self, context: CallContext, model: str, seq: int, at: Target | None = None) -> Outcome:
        """One call of `model`, at a deployment chosen before or now: an outcome with exactly one attempt, whatever
        happens, cancellation included.

        After a cancellation the current task goes on (its `cancel` is used up here), so that the outcome, and with
        it the cost, can still be recorded.
        """
        target = at or self.choose(context, model)
        user_id, size, spec = context.key.user_id, context.profile.size, context.specs[target.model]
        measure = self.ratios.measure(user_id, size, spec, context.kind(target.deployment))
        call = CallState(context, target, seq, measure)
        try:
            async with asyncio.timeout_at(context.deadline):
                await self._stream(call, target)
        except asyncio.CancelledError:
            _go_on()
            return call.canceled()
        except TimeoutError:
            total = ProviderError("timeout_total", "the request's total time is over", Remedy.GIVE_UP)
            return call.failed(total)
        except ProviderError as error:
            if call.prepared is not None and self.learnt.learn(target, call.prepared, error):
                # About how we asked, and not about what the client asks for.
                error.remedy, error.refused = Remedy.FALL_BACK, "request"
            return call.failed(error)
        except ModelPilotError as error:
            return call.failed(ProviderError("configuration", error.message, Remedy.FALL_BACK))
        outcome = call.completed()
        if call.reported is not None:
            self.ratios.learn(user_id, spec.id, size, call.reported)
        return outcome

    async def _stream(self, call: CallState, target: Target) -> None:
        context, deployment = call.context, call.deployment
        if not context.profile.body:
            raise ProviderError("request_expired", "the request's body is not kept any more", Remedy.GIVE_UP)
        endpoint = await self._configuration.endpoint(context.key.user_id, deployment.provider, deployment.key_index)
        plan, streamed = context.plan, context.sink is not None
        asked = {"streamed": streamed, "whole": plan.upstream == "whole"}
        prepared = call.prepared = self.learnt.prepare(
            target, call.spec, endpoint, context.profile, prompt_tokens=call.measure.prompt_tokens, **asked
        )
        provider_call = ProviderCall(
            endpoint=endpoint,
            model=deployment.provider_model,
            body=prepared.body,
            manners=prepared.manners,
            # A whole answer says nothing before it is complete: only the request's total time bounds the wait for it.
            first_token_ms=plan.total_ms if prepared.whole else plan.first_token_ms,
            idle_ms=plan.idle_ms,
            request_id=context.key.request_id,
            connect_ms=plan.connect_ms,
            whole=prepared.whole,
            gather_ms=0 if streamed else GATHER_MS,
        )
        async with aclosing(self._clients.client_for(endpoint.kind).stream_chat(provider_call)) as batches:
            async for chunks in batches:
                await call.take(chunks)
        await call.end()


async def slept(wait_s: float) -> bool:
    """Wait; false where the wait was canceled, after which the current task goes on."""
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
