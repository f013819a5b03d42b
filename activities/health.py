"""What this process has seen of the deployments it calls: a breaker for each, and providers whose key was refused."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from modelpilot.breaker import Breaker, BreakerRules, State, is_healthy
from modelpilot.messages import CallPlan
from modelpilot.outcome import Attempt

log = structlog.get_logger(__name__)

# A refused key is tried again after this, even if nobody changed it here: it may have been mended at the provider.
KEY_COOL_DOWN_S = 300.0
# Bounds memory; beyond it the deployment that was seen first is forgotten, and begins again as healthy.
MAXIMUM_DEPLOYMENTS = 10_000


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider, of one owner: providers of the same id are different ones for different owners."""

    user_id: str
    provider: str
    model: str


def deployment_of(user_id: str, plan: CallPlan, model: str) -> Deployment:
    """Where a call of `model` goes under this plan."""
    return Deployment(user_id, plan.call_format or str(plan.specs[model]["provider"]), model)


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """One deployment for the API. `open_since` is Unix seconds; `excluded_because` is what a decision would say."""

    provider: str
    model: str
    state: State
    excluded_because: str | None
    open_since: float | None
    next_probe_s: float
    calls: int
    failures: int


class DeploymentHealth:
    """Per process, so that no request waits for anybody's opinion; another gateway learns the same within a few calls.

    `clock` gives monotonic seconds.
    """

    def __init__(self, rules: BreakerRules | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._rules = rules or BreakerRules()
        self._breakers: dict[Deployment, Breaker] = {}
        self._refused: dict[tuple[str, str], float] = {}  # (owner, provider) → when its key may be tried again
        self._changed_at = -math.inf

    def why_not(self, deployment: Deployment) -> str | None:
        """Why the deployment should not be called now, as a sentence; None where it may be."""
        return self._refused_key(deployment) or self._broken(deployment)

    def reserve(self, deployment: Deployment) -> None:
        """A call is about to be made: the only one, where the deployment is being probed."""
        breaker = self._breakers.get(deployment)
        if breaker is not None:
            breaker.reserve()

    def record(self, deployment: Deployment, attempt: Attempt, began_s: float) -> None:
        """The end of a call that began at `began_s` of `clock`."""
        breaker = self._breakers.get(deployment) or self._add(deployment)
        before = breaker.state
        if attempt.status == "ok":
            self._refused.pop((deployment.user_id, deployment.provider), None)
        breaker.record(is_healthy(attempt.status, attempt.error_type), began_s)
        if breaker.state != before:
            log.warning("breaker", provider=deployment.provider, model=deployment.model, state=breaker.state)

    def refuse_key(self, deployment: Deployment, began_s: float) -> None:
        """The provider refused its key in a call that began at `began_s`: it is skipped until its configuration
        changes or the cool-down passes."""
        if began_s >= self._changed_at:  # otherwise it may be the old key that was refused
            self._refused[deployment.user_id, deployment.provider] = self.clock() + KEY_COOL_DOWN_S
            log.warning("provider_key_refused", provider=deployment.provider)

    def configuration_changed(self, kind: str | None, user_id: str | None, item_id: str | None) -> None:
        """A changed provider is another one, with a clean record; kind None: any may have changed."""
        if kind not in (None, "provider"):
            return
        self._changed_at = self.clock()
        everyone = kind is None or not user_id

        def touched(owner: str, provider: str) -> bool:
            return everyone or (owner, provider) == (user_id, item_id)

        self._refused = {key: until for key, until in self._refused.items() if not touched(*key)}
        self._breakers = {d: breaker for d, breaker in self._breakers.items() if not touched(d.user_id, d.provider)}

    def unhealthy_keys(self, user_id: str) -> tuple[str, ...]:
        """The owner's providers whose key was refused."""
        now = self.clock()
        return tuple(sorted(name for (owner, name), until in self._refused.items() if owner == user_id and now < until))

    def snapshot(self, user_id: str) -> tuple[DeploymentReport, ...]:
        """Every deployment of the owner that this process has called, by provider and model."""
        mine = [deployment for deployment in self._breakers if deployment.user_id == user_id]
        return tuple(self._report(deployment) for deployment in sorted(mine, key=lambda d: (d.provider, d.model)))

    def count(self, state: State) -> int:
        """How many deployments, of all owners, are in this state."""
        return sum(breaker.state == state for breaker in self._breakers.values())

    def count_refused_keys(self) -> int:
        """How many providers, of all owners, are skipped for their key."""
        now = self.clock()
        return sum(now < until for until in self._refused.values())

    def _add(self, deployment: Deployment) -> Breaker:
        if len(self._breakers) >= MAXIMUM_DEPLOYMENTS:
            del self._breakers[next(iter(self._breakers))]
        breaker = self._breakers[deployment] = Breaker(self._rules, self.clock)
        return breaker

    def _refused_key(self, deployment: Deployment) -> str | None:
        until = self._refused.get((deployment.user_id, deployment.provider))
        left_s = 0.0 if until is None else until - self.clock()
        if left_s <= 0.0:
            return None
        name = deployment.provider
        return f"provider {name} refused its API key (PUT /api/providers/{name}), next try in {math.ceil(left_s)} s"

    def _broken(self, deployment: Deployment) -> str | None:
        breaker = self._breakers.get(deployment)
        if breaker is None or breaker.admits:
            return None
        since = datetime.fromtimestamp(_opened_at(breaker) or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if breaker.state == "half_open":
            return f"circuit breaker open since {since}, a probe is under way"
        return f"circuit breaker open since {since}, next probe in {math.ceil(breaker.next_probe_s)} s"

    def _report(self, deployment: Deployment) -> DeploymentReport:
        breaker = self._breakers[deployment]
        calls, failures = breaker.counts
        return DeploymentReport(
            provider=deployment.provider,
            model=deployment.model,
            state=breaker.state,
            excluded_because=self.why_not(deployment),
            open_since=_opened_at(breaker),
            next_probe_s=breaker.next_probe_s,
            calls=calls,
            failures=failures,
        )


def _opened_at(breaker: Breaker) -> float | None:
    return None if breaker.open_for_s is None else time.time() - breaker.open_for_s
