"""What the calls of one request share, and the state of one of them."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from activities.delivery import Delivery, can_go_on
from activities.failures import canceled_outcome, failed_outcome
from activities.health import Deployment
from activities.inflight import ChunkSink
from modelpilot.chat.profile import RequestProfile
from modelpilot.chat.text import CHARACTERS_PER_TOKEN
from modelpilot.learning.quality import answer_quality
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import Place, ProviderFacts, places_of
from modelpilot.providers.pricing import call_cost_usd
from modelpilot.requests.messages import CallPlan
from modelpilot.requests.outcome import Attempt, Outcome, ProviderError, Usage
from modelpilot.requests.records import RequestKey
from modelpilot.routing.eligibility import cannot_honour
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
    providers: Mapping[str, ProviderFacts] = field(default_factory=dict)

    def places(self, model: str) -> tuple[Place, ...]:
        """Where `model` can be called for this request; never none, since an accepted request is tried."""
        spec, call_format = self.specs[model], self.plan.call_format
        found = places_of(spec, call_format, self.providers, lambda kind: cannot_honour(kind, self.profile.body))
        return found.usable or places_of(spec, call_format).usable

    def remaining_s(self) -> float:
        """What is left of the request's total time, seconds; negative when it is over."""
        return self.deadline - asyncio.get_running_loop().time()


class CallState:
    """One call: what has arrived, and what the client has been given of it."""

    def __init__(self, context: CallContext, deployment: Deployment, seq: int) -> None:
        self.context, self.seq, self.place = context, seq, deployment.place
        self.spec = context.specs[deployment.model]
        self._assembler = ChunkAssembler()
        self._delivery = Delivery(context.sink, context.plan, seq, deployment.model)
        self._began, self._started_at = time.perf_counter(), time.time()
        self._ttft_ms: float | None = None

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
            provider=self.place.provider,
            status=status,
            error_type=error.error_type if error else ("canceled" if status == "canceled" else None),
            http_status=error.http_status if error else None,
            message=error.message if error else None,
            latency_ms=self._elapsed_ms(),
            ttft_ms=self._ttft_ms,
            cost_usd=call_cost_usd(self.spec, usage) if billed else 0.0,
            usage=usage,
            started_at=self._started_at,
            deployment=self.place.label,
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
            provider=self.place.provider,
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
        return canceled_outcome((attempt,), self.spec.id, self.place.provider)
