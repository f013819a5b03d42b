"""Calls for embeddings: one, and others at other deployments of the model where those may do better."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from activities.requests.deployments import DeploymentHealth, LoadBalancer, Target, speaks_of_deployment
from modelpilot.errors import InvalidRequest
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import Deployment
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.requests.outcome import Attempt, ProviderError
from modelpilot.requests.ports import ConfigurationSource, EmbeddingClients
from modelpilot.requests.records import RouterSnapshot

# Calls of one request, each at another deployment.
MAXIMUM_CALLS = 3


@dataclass(frozen=True, slots=True)
class Embedded:
    """How a request for embeddings ended: with the answer of the last attempt, or with its error."""

    attempts: tuple[Attempt, ...]
    answer: dict[str, Any] | None = None
    error: ProviderError | None = None


class EmbeddingCaller:
    """Calls embedding models. What it learns about deployments it shares with everybody who calls models."""

    def __init__(self, clients: EmbeddingClients, configuration: ConfigurationSource, health: DeploymentHealth) -> None:
        self._clients, self._configuration = clients, configuration
        self._balancer = LoadBalancer(configuration, health)

    async def embed(self, snapshot: RouterSnapshot, spec: ModelSpec, body: dict[str, Any]) -> Embedded:
        """The embeddings of an OpenAI-shaped `body`. Raises InvalidRequest where no provider of the model has any, and
        what the configuration raises."""
        deployments = snapshot.deployments(spec, None, self._why_no_embeddings)
        if deployments.why_none is not None:
            raise InvalidRequest(f"model: {deployments.why_none}", param="model")
        ended = Embedded(())
        target: Target | None = self._balancer.choose(snapshot.user_id, spec.id, deployments.usable)
        tried: list[Deployment] = []
        while target is not None:
            tried.append(target.deployment)
            ended = await self._call(target, body, ended.attempts, alone=len(deployments.usable) == 1)
            again = len(tried) < MAXIMUM_CALLS and speaks_of_deployment(ended.attempts[-1])
            target = self._balancer.elsewhere(target, deployments.usable, tried) if again else None
        return ended

    def _why_no_embeddings(self, kind: ProviderKind | None, _: Manners) -> str | None:
        try:
            if kind is not None:
                self._clients.embedder_for(kind)
        except InvalidRequest:
            return f"providers of kind {kind} have no embeddings here"
        return None

    async def _call(
        self, target: Target, body: dict[str, Any], earlier: tuple[Attempt, ...], *, alone: bool
    ) -> Embedded:
        deployment, health = target.deployment, self._balancer.health
        endpoint = await self._configuration.endpoint(target.user_id, deployment.provider, deployment.key_index)
        call = _Call(target, len(earlier), health.clock())
        try:
            answer = await self._clients.embedder_for(endpoint.kind).embed(endpoint, deployment.provider_model, body)
        except ProviderError as error:
            failed = call.attempt("error", error)
            wait_s, refused = error.retry_after_s, error.refused
            await self._balancer.learn(target, failed, call.began_s, retry_after_s=wait_s, refused=refused, alone=alone)
            return Embedded((*earlier, failed), error=error)
        except asyncio.CancelledError:
            health.record(target, call.attempt("canceled"), call.began_s)
            raise
        done = call.attempt("ok")
        await self._balancer.learn(target, done, call.began_s, retry_after_s=None, refused=None, alone=alone)
        return Embedded((*earlier, done), answer)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call under way; `began_s` is of the health's clock."""

    target: Target
    seq: int
    began_s: float
    started_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)

    def attempt(self, status: Literal["ok", "error", "canceled"], error: ProviderError | None = None) -> Attempt:
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
            cost_usd=None if status == "ok" else 0.0,
            started_at=self.started_at,
            deployment=deployment.label,
        )
