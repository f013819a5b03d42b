"""One gateway's core over fakes: registry, controller, recovery, submissions; and the activities of its workflow."""

import asyncio
import base64
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from activities.requests.acceptance import Acceptance
from activities.requests.caches import RouterCache
from activities.requests.call import ModelCaller, Sleep, slept
from activities.requests.controller import FlightController
from activities.requests.decision import DecisionSteps
from activities.requests.deployments import DeploymentHealth
from activities.requests.fallback import Fallbacks
from activities.requests.flight import BackgroundTasks, Flight, FlightRegistry
from activities.requests.recovery import Recovery, snapshot_of
from activities.requests.sink import ChunkSink
from activities.requests.steps import PerformanceActivities, ProviderActivities, RoutingActivities
from api.gateway.answer import AnswerStream
from api.gateway.receive import ReceivedRequest, Submission
from api.gateway.submit import Submissions
from infra.crypto.keyring import Keyring
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import profile_request
from modelpilot.providers.prompt_caches import PromptCaches
from modelpilot.providers.token_ratios import TokenRatios
from modelpilot.requests.outcome import Outcome, ProviderError, Remedy
from modelpilot.requests.ports import RequestWorkflows
from modelpilot.requests.records import RouterSnapshot
from modelpilot.requests.route_request import RouteRequestInput
from tests.support import fakes
from tests.support.fakes import FakeProviders
from tests.support.routing_samples import PRINCIPAL, chat_body, plan, router, snapshot, spec, stream
from tests.support.routing_samples import request as accepted

Client = TestClient[web.Request, web.Application]

A = spec("sim/a", quality_score=0.9)
B = spec("sim/b", quality_score=0.5)
C = spec("sim/c", quality_score=0.4)
# What the answers of `stream()` cost: 10 tokens in, 5 out.
COST_USD = 10 * 1e-6 + 5 * 2e-6

# Fixed, so that saved histories can be read; it protects nothing but test data.
SENTENCE = b"ModelPilot test histories are encrypted with the hash of this sentence."
KEYS = base64.b64encode(hashlib.sha256(SENTENCE).digest()).decode()
KEYRING = Keyring([KEYS])


def failure(kind: str = "server_error", remedy: Remedy = Remedy.FALL_BACK, **details: Any) -> ProviderError:
    """A failed call."""
    return ProviderError(kind, f"the provider says {kind}", remedy, **details)


def routed(*fallbacks: str, **changes: Any) -> RouterSnapshot:
    """A router that chooses sim/a by its quality, and falls back to the models named."""
    strategy = {"fallback_models": list(fallbacks), "retry_attempts": 3}
    plain = {"objective": {"quality_weight": 1.0}, "fallback_strategy": strategy, "same_model_retries": 0}
    return snapshot(router("sim/a", "sim/b", **{**plain, **changes}), A, B, C)


QUICK_S = 0.001  # between a failed commit and the next, and between two looks at a request of another gateway


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


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

    def __init__(
        self,
        shot: RouterSnapshot | None = None,
        like: "Core | None" = None,
        instance: str = "gw-1",
        temporal: RequestWorkflows | None = None,
    ) -> None:
        self.ledger: fakes.FakeLedger = like.ledger if like else fakes.FakeLedger()
        self.leases: fakes.FakeLeases = like.leases if like else fakes.FakeLeases(self.ledger, instance)
        self.workflows: fakes.FakeWorkflows = like.workflows if like else fakes.FakeWorkflows()
        self.postgres: fakes.FakeHealth = like.postgres if like else fakes.FakeHealth()
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
        self.prompt_caches = caches = PromptCaches(self.clock)
        self.ratios = TokenRatios()
        shared: dict[str, Any] = {"caches": caches, "ratios": self.ratios}
        self.caller = ModelCaller(self.providers, self.cache, self.health, sleep=self._sleep, **shared)
        self.steps = DecisionSteps(self.embedder, self.history, random.Random(0), self.health, **shared)
        self.fallbacks = Fallbacks(self.caller, self.ledger, self._sleep, QUICK_S)
        self.acceptance = Acceptance(
            self.ledger, self.postgres, temporal or self.workflows, self.background, 20 * QUICK_S, 100 * QUICK_S
        )
        self.controller = FlightController(
            registry=self.registry,
            caller=self.caller,
            fallbacks=self.fallbacks,
            acceptance=self.acceptance,
            ledger=self.ledger,
            leases=self.leases,
            workflows=temporal or self.workflows,
            background=self.background,
            mac=KEYRING.mac,
            learn=self.history.learn,
            retry_s=QUICK_S,
        )
        self.recovery = Recovery(
            instance, self.caller, self.steps, self.ledger, self.leases, KEYRING.mac, QUICK_S, QUICK_S
        )
        self.submissions = self._submissions()
        if like is None:
            for model in (A, B, C):
                self.providers.will(model, stream())

    async def _sleep(self, wait_s: float) -> bool:
        return await self.sleep(wait_s)

    def _submissions(self) -> Submissions:
        return Submissions(
            configuration=self.cache,
            steps=self.steps,
            controller=self.controller,
            acceptance=self.acceptance,
            registry=self.registry,
            ledger=self.ledger,
            mac=KEYRING.mac,
            poll_s=QUICK_S,
        )

    def limit(self, most: int) -> None:
        """Hold fewer requests at a time."""
        self.registry.most = most

    @property
    def own_steps(self) -> ProviderActivities:
        """The provider steps of the gateway itself, which has answers open."""
        return ProviderActivities(self.recovery, self.fallbacks, self.controller, heartbeat_s=10 * QUICK_S)

    @property
    def provider_steps(self) -> ProviderActivities:
        """The provider steps of a worker."""
        return ProviderActivities(self.recovery, self.fallbacks, heartbeat_s=10 * QUICK_S)

    @property
    def performance(self) -> PerformanceActivities:
        """The last step as an activity."""
        return PerformanceActivities(self.recovery)

    def activities(self) -> list[Callable[..., Any]]:
        """All activities of the routing worker."""
        routing, providers = RoutingActivities(), self.provider_steps
        steps = [routing.load_router, routing.embed_prompt, routing.query_history, routing.score_models]
        return [*steps, providers.call_provider, providers.call_fallback, self.performance.store_performance]

    async def submit(self, **changes: Any) -> Submission:
        """Submit a request (see `received`)."""
        return await self.submissions.submit(received(**changes))

    async def answer(self, **changes: Any) -> Outcome:
        """Submit a request and wait for its outcome."""
        return (await self.submissions.ended(await self.submit(**changes))).outcome

    def flight(self, request: RouteRequestInput, *, stream: bool = False, **changes: Any) -> Flight:
        """A flight of the request that was not launched; other fields of it may be given."""
        body = json.loads(request.body) if request.body is not None else chat_body()
        return Flight(
            request,
            profile_request(body, ChatBody.model_validate(body)),
            snapshot_of(request),
            changes.pop("vector", np.array([1.0, 0.0, 0.0, 0.0], np.float32)),
            time.monotonic(),
            sink=ChunkSink() if stream else None,
            **changes,
        )

    async def settled(self, request: RouteRequestInput, **changes: Any) -> Flight:
        """A flight that was launched and has ended."""
        flight = self.launched(request, **changes)
        await flight.ended
        return flight

    def launched(self, request: RouteRequestInput | None = None, **changes: Any) -> Flight:
        """A flight that has begun; of a plain request for sim/a unless another one is given."""
        flight = self.flight(request or accepted(plan(A)), **changes)
        self.controller.launch(flight)
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


@asynccontextmanager
async def streaming(core: Core, made: Callable[[web.Request, Core, Submission], AnswerStream]) -> AsyncIterator[Client]:
    """An HTTP client of the core; every request is the same streamed one, answered by the stream that is `made`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        submission = await core.submissions.submit(received(fields={"stream": True}))
        return await made(request, core, submission).run()

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestClient(TestServer(app)) as client:
        yield client
