"""One gateway's core over fakes: registry, controller, recovery, submissions, activities."""

import base64
import hashlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from activities.requests.caches import RouterCache
from activities.requests.call import ModelCaller, Sleep, slept
from activities.requests.controller import FlightController
from activities.requests.decision import DecisionSteps
from activities.requests.deployments import DeploymentHealth
from activities.requests.flight import BackgroundTasks, ChunkSink, Flight, FlightRegistry
from activities.requests.recovery import Recovery, snapshot_of
from activities.requests.steps import PerformanceActivities, ProviderActivities, RoutingActivities
from api.gateway.receive import ReceivedRequest, Submission
from api.gateway.submit import Submissions
from infra.crypto.keyring import Keyring
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import profile_request
from modelpilot.requests.outcome import Outcome, ProviderError, Remedy
from modelpilot.requests.records import RouterSnapshot
from modelpilot.requests.route_request import RouteRequestInput, StepReport
from tests.support import fakes
from tests.support.fakes import FakeProviders
from tests.support.routing_samples import PRINCIPAL, chat_body, router, snapshot, spec, stream

A = spec("sim/a", quality_score=0.9)
B = spec("sim/b", quality_score=0.5)
C = spec("sim/c", quality_score=0.4)
# What the answers of `stream()` cost: 10 tokens in, 5 out.
COST_USD = 10 * 1e-6 + 5 * 2e-6

# Fixed, so that saved histories can be read; it protects nothing but test data.
SENTENCE = b"ModelPilot test histories are encrypted with the hash of this sentence."
KEYRING = Keyring([base64.b64encode(hashlib.sha256(SENTENCE).digest()).decode()])


def failure(kind: str = "server_error", remedy: Remedy = Remedy.FALL_BACK, **details: Any) -> ProviderError:
    """A failed call."""
    return ProviderError(kind, f"the provider says {kind}", remedy, **details)


def routed(*fallbacks: str, **changes: Any) -> RouterSnapshot:
    """A router that chooses sim/a by its quality, and falls back to the models named."""
    strategy = {"fallback_models": list(fallbacks), "retry_attempts": 3}
    plain = {"objective": {"quality_weight": 1.0}, "fallback_strategy": strategy, "same_model_retries": 0}
    return snapshot(router("sim/a", "sim/b", **{**plain, **changes}), A, B, C)


QUICK_S = 0.001  # between a failed commit and the next, and between two looks at a request of another gateway


class ManualClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Core:
    """The parts of one gateway. Give two of them the same fakes, and they are two gateways of one installation.

    A test may replace `sleep`, which every wait before a repeated call goes through.
    """

    def __init__(self, shot: RouterSnapshot | None = None, like: "Core | None" = None, instance: str = "gw-1") -> None:
        self.ledger: fakes.FakeLedger = like.ledger if like else fakes.FakeLedger()
        self.leases: fakes.FakeLeases = like.leases if like else fakes.FakeLeases(instance)
        self.starter: fakes.FakeStarter = like.starter if like else fakes.FakeStarter()
        self.providers: FakeProviders = like.providers if like else FakeProviders()
        self.history: fakes.FakeHistory = like.history if like else fakes.FakeHistory()
        self.embedder = fakes.FakeEmbedder()
        self.leases.alive.add(instance)
        known: RouterSnapshot = like.configuration.shot if like else routed()
        self.configuration: fakes.FakeConfiguration = fakes.FakeConfiguration(shot or known)
        self.clock = ManualClock()
        self.health = DeploymentHealth(clock=self.clock)
        self.cache = RouterCache(self.configuration, on_drop=self.health.configuration_changed)
        self.registry, self.background = FlightRegistry(instance), BackgroundTasks()
        self.sleep: Sleep = slept
        self.caller = ModelCaller(self.providers, self.cache, self.health, sleep=self._sleep)
        self.controller = FlightController(self.caller, self.ledger, self.background, KEYRING.mac, QUICK_S)
        self.recovery = Recovery(self.registry, self.controller, self.ledger, self.leases, QUICK_S)
        self.steps = DecisionSteps(self.embedder, self.history, random.Random(0), self.health)
        self.submissions = self._submissions(1_000)
        if like is None:
            for model in (A, B, C):
                self.providers.will(model, stream())

    async def _sleep(self, wait_s: float) -> bool:
        return await self.sleep(wait_s)

    def _submissions(self, max_in_flight: int) -> Submissions:
        return Submissions(
            configuration=self.cache,
            steps=self.steps,
            controller=self.controller,
            registry=self.registry,
            ledger=self.ledger,
            starter=self.starter,
            background=self.background,
            mac=KEYRING.mac,
            max_in_flight=max_in_flight,
        )

    def limit(self, max_in_flight: int) -> None:
        """Allow fewer requests at a time."""
        self.submissions = self._submissions(max_in_flight)

    @property
    def routing(self) -> RoutingActivities:
        """The decision steps as activities."""
        return RoutingActivities(self.registry)

    @property
    def provider_steps(self) -> ProviderActivities:
        """The provider steps as activities."""
        return ProviderActivities(
            self.registry, self.controller, self.recovery, self.ledger, self._sleep, heartbeat_s=10 * QUICK_S
        )

    @property
    def performance(self) -> PerformanceActivities:
        """The last step as an activity."""
        return PerformanceActivities(
            self.registry, self.controller, self.recovery, self.steps, self.history, self.ledger
        )

    def activities(self) -> list[Callable[..., Any]]:
        """All activities of the routing worker."""
        routing, providers = self.routing, self.provider_steps
        steps = [routing.load_router, routing.embed_prompt, routing.query_history, routing.score_models]
        return [*steps, providers.call_provider, providers.call_fallback, self.performance.store_performance]

    async def submit(self, **changes: Any) -> Submission:
        """Submit a request (see `received`)."""
        return await self.submissions.submit(received(**changes))

    async def answer(self, **changes: Any) -> Outcome:
        """Submit a request and wait for its outcome."""
        outcome, _ = await self.submissions.outcome(await self.submit(**changes))
        return outcome

    def flight(self, request: RouteRequestInput, *, stream: bool = False, commit_first: bool = False) -> Flight:
        """A registered, acknowledged flight that was not launched."""
        body = json.loads(request.body or "{}")
        flight = Flight(
            request,
            profile_request(body, ChatBody.model_validate(body)),
            snapshot_of(request),
            None,
            {name: StepReport() for name in ("load_router", "embed_prompt", "query_history", "score_models")},
            time.monotonic(),
            sink=ChunkSink() if stream else None,
            commit_first=commit_first,
        )
        flight.acknowledge(started=True)
        self.registry.add(flight)
        return flight


def received(text: str = "Simple question", **changes: Any) -> ReceivedRequest:
    """A checked HTTP request to the router. Other fields of it may be given, or `fields` of its body."""
    body = chat_body(text, **changes.pop("fields", {}))
    plain = ReceivedRequest(
        principal=PRINCIPAL,
        router_id="support",
        model_id=None,
        raw=json.dumps(body).encode(),
        body=body,
        checked=ChatBody.model_validate(body),
        received_at=time.monotonic(),
    )
    return replace(plain, **changes)
