"""Calls for embeddings: one, and others at other deployments of the model where those may do better."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from activities.requests.balancer import LoadBalancer, speaks_of_deployment
from activities.requests.deployments import DeploymentHealth, Target
from activities.requests.failures import failed_outcome
from activities.requests.flight import BackgroundTasks
from activities.requests.recording import Mac, paid_record, prompt_hash, record_in_the_end
from modelpilot.chat.tokens import count_each
from modelpilot.errors import InvalidRequest
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import Deployment
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.providers.metering import NO_CHARGE, Charge, Expected, believable, charge
from modelpilot.providers.pricing import bill_of
from modelpilot.requests.outcome import Attempt, Outcome, ProviderError, Usage
from modelpilot.requests.ports import ConfigurationSource, EmbeddingClients, Ledger
from modelpilot.requests.records import RequestKey, RequestRecord, RouterSnapshot
from modelpilot.wire.jsonb import dump
from modelpilot.wire.usage import parse_usage

# Calls of one request, each at another deployment.
MAXIMUM_CALLS = 3
NOTHING_USED = Usage()
_UNKNOWN = Charge(cost_usd=None)  # of a call whose end nobody saw


# A paid answer waits no longer for its row, which is then written behind it.
LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Who asks for embeddings and what, in OpenAI's shape without `model`; `received_at` is monotonic seconds."""

    key: RequestKey
    router_id: str | None
    api_key_id: str | None
    body: dict[str, Any]
    received_at: float
    tags: Mapping[str, str] = field(default_factory=dict)
    end_user: str | None = None
    session_id: str | None = None

    @property
    def text(self) -> str:
        """What is to be embedded."""
        given = self.body.get("input")
        return given if isinstance(given, str) else dump(given).decode("utf-8", "replace")

    @property
    def tokens(self) -> int:
        """The tokens of that; what is given as tokens is so many."""
        given = self.body.get("input")
        items = given if isinstance(given, list) else [given]
        ready = sum(len(item) if isinstance(item, list) else 1 for item in items if isinstance(item, int | list))
        return ready + sum(count_each([item for item in items if isinstance(item, str)]))


@dataclass(slots=True)
class _Made:
    """What was called so far, and what came of the last call."""

    attempts: list[Attempt] = field(default_factory=list)
    answer: dict[str, Any] | None = None
    error: ProviderError | None = None


class EmbeddingCaller:
    """Calls embedding models, and records each request. What it learns about deployments it shares with everybody who
    calls models."""

    def __init__(
        self,
        clients: EmbeddingClients,
        configuration: ConfigurationSource,
        health: DeploymentHealth,
        *,
        ledger: Ledger,
        mac: Mac,
        background: BackgroundTasks,
    ) -> None:
        self._clients, self._configuration = clients, configuration
        self._balancer = LoadBalancer(configuration, health)
        self._ledger, self._mac, self._background = ledger, mac, background

    async def embed(self, snapshot: RouterSnapshot, spec: ModelSpec, asked: EmbeddingRequest) -> RequestRecord:
        """The row of the request, with its answer, once it is recorded (or after a while, and then it says so).

        Raises InvalidRequest where no provider of the model has any, and what the configuration raises.
        """
        deployments = snapshot.deployments(spec, None, self._why_no_embeddings)
        if deployments.why_none is not None:
            raise InvalidRequest(f"model: {deployments.why_none}", param="model")
        made = _Made()
        try:
            await self._call_in_turn(snapshot, spec, deployments.usable, asked, made)
        finally:  # also where the client leaves, or a provider is taken away meanwhile
            record = self._record(snapshot, spec, asked, made)
            committing = self._background.spawn(self._commit(record)) if made.attempts else None
        if committing is None:
            return record
        await asyncio.wait({committing}, timeout=LONGEST_WAIT_S)
        return record if committing.done() else replace(record, degraded=("ledger",))

    async def _call_in_turn(
        self,
        snapshot: RouterSnapshot,
        spec: ModelSpec,
        usable: Sequence[Deployment],
        asked: EmbeddingRequest,
        made: _Made,
    ) -> None:
        target: Target | None = self._balancer.choose(snapshot.user_id, spec.id, usable)
        tried: list[Deployment] = []
        while target is not None:
            tried.append(target.deployment)
            await self._call(target, spec, asked, made, alone=len(usable) == 1)
            again = len(tried) < MAXIMUM_CALLS and speaks_of_deployment(made.attempts[-1])
            target = self._balancer.elsewhere(target, usable, tried) if again else None

    def _record(self, snapshot: RouterSnapshot, spec: ModelSpec, asked: EmbeddingRequest, made: _Made) -> RequestRecord:
        outcome = _outcome(spec, made)
        elapsed_ms = (time.monotonic() - asked.received_at) * 1_000.0
        return paid_record(
            asked.key,
            "embedding",
            outcome,
            time.time() - elapsed_ms / 1_000.0,
            overhead_ms=max(elapsed_ms - outcome.latency_ms, 0.0),
            router_id=asked.router_id,
            api_key_id=asked.api_key_id,
            config_version=snapshot.version,
            prompt_hash=prompt_hash(self._mac, asked.key.user_id, asked.router_id, asked.text),
            tags=dict(asked.tags),
            end_user=asked.end_user,
            session_id=asked.session_id,
        )

    async def _commit(self, record: RequestRecord) -> None:
        # The vectors are the client's: what is kept is what they cost.
        await record_in_the_end(self._ledger, replace(record, outcome=replace(record.outcome, answer=None)))

    def _why_no_embeddings(self, kind: ProviderKind | None, _: Manners) -> str | None:
        try:
            if kind is not None:
                self._clients.embedder_for(kind)
        except InvalidRequest:
            return f"providers of kind {kind} have no embeddings here"
        return None

    async def _call(
        self, target: Target, spec: ModelSpec, asked: EmbeddingRequest, made: _Made, *, alone: bool
    ) -> None:
        deployment, health = target.deployment, self._balancer.health
        endpoint = await self._configuration.endpoint(target.user_id, deployment.provider, deployment.key_index)
        client, call = self._clients.embedder_for(endpoint.kind), _Call(target, len(made.attempts), health.clock())
        made.answer = made.error = None
        try:
            made.answer = await client.embed(endpoint, deployment.provider_model, {"model": spec.id, **asked.body})
        except ProviderError as error:
            made.error = error
            made.attempts.append(failed := call.attempt("error", error=error))
            wait_s, refused = error.retry_after_s, error.refused
            await self._balancer.learn(target, failed, call.began_s, retry_after_s=wait_s, refused=refused, alone=alone)
        except asyncio.CancelledError:
            made.attempts.append(canceled := call.attempt("canceled", charged=_UNKNOWN))
            health.record(target, canceled, call.began_s)
            raise
        else:
            usage, estimated = _usage(made.answer, asked)
            charged = charge(bill_of(spec, usage), made.answer.get("usage"), estimated)
            made.attempts.append(done := call.attempt("ok", usage, charged))
            await self._balancer.learn(target, done, call.began_s, retry_after_s=None, refused=None, alone=alone)


def _usage(answer: dict[str, Any], asked: EmbeddingRequest) -> tuple[Usage, str | None]:
    said = Usage(input_tokens=parse_usage(answer.get("usage")).input_tokens)
    found = believable(said, Expected(1, 0), whole=True)
    return found if found[1] is None else believable(said, Expected(max(asked.tokens, 1), 0), whole=True)


def _outcome(spec: ModelSpec, made: _Made) -> Outcome:
    attempts = tuple(made.attempts)
    if made.error is not None:
        return failed_outcome(attempts, made.error, can_fall_back=False)
    if made.answer is None:
        provider = attempts[-1].provider if attempts else spec.provider
        return Outcome("canceled", spec.id, provider, attempts, error_code="request_canceled")
    last = attempts[-1]
    return Outcome(
        "completed",
        spec.id,
        last.provider,
        attempts,
        answer=made.answer,
        finish_reason="stop",
        usage=last.usage,
        cost_usd=last.cost_usd,
        estimated=last.estimated,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call under way; `began_s` is of the health's clock."""

    target: Target
    seq: int
    began_s: float
    started_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)

    def attempt(
        self,
        status: Literal["ok", "error", "canceled"],
        usage: Usage = NOTHING_USED,
        charged: Charge = NO_CHARGE,
        error: ProviderError | None = None,
    ) -> Attempt:
        """What became of it."""
        deployment = self.target.deployment
        return Attempt(
            seq=self.seq,
            model=self.target.model,
            provider=deployment.provider,
            status=status,
            error_type=error.error_type if error else None,
            http_status=error.http_status if error else None,
            latency_ms=(time.perf_counter() - self.began) * 1_000.0,
            usage=usage,
            **charged._asdict(),
            started_at=self.started_at,
            deployment=deployment.label,
        )
