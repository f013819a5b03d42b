"""Which deployment of a model is called: what this process has seen of each (breaker, refused key, rate limit), and
the choice among them.
"""

import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from activities.requests.refusals import Refusals
from modelpilot.errors import ModelPilotError
from modelpilot.providers.breaker import Breaker, BreakerRules, State, is_healthy
from modelpilot.providers.deployments import Deployment, choice, healthy_choice
from modelpilot.requests.outcome import Attempt, Refused
from modelpilot.requests.ports import ConfigurationSource

log = structlog.get_logger(__name__)

# A refused key or model is tried again after this, even if nobody changed it here: it may have been mended at the
# provider.
KEY_COOL_DOWN_S = 300.0
# A provider's Retry-After is believed up to this.
LONGEST_COOL_DOWN_S = 600.0

_Key = tuple[str, str, int]  # owner, provider, index of the key


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a call goes to: a model of one owner at one deployment. Providers of the same id are different ones for
    different owners."""

    user_id: str
    model: str
    deployment: Deployment

    @property
    def provider(self) -> str:
        """The provider's id."""
        return self.deployment.provider

    @property
    def key(self) -> _Key:
        """The key that it is called with: a refused key is refused for all models behind it."""
        return self.user_id, self.deployment.provider, self.deployment.key_index


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """One deployment for the API. `open_since` is Unix seconds; `excluded_because` is what a decision would say."""

    provider: str
    model: str
    deployment: str
    state: State
    excluded_because: str | None
    open_since: float | None
    next_probe_s: float
    calls: int
    failures: int


class DeploymentHealth:
    """Which deployments should not be called now. `clock` gives monotonic seconds.

    Per process, so that no request waits for anybody's opinion; another gateway learns the same within a few calls. At
    most `maximum` deployments are kept, which bounds memory: beyond them the one that was seen first is forgotten, and
    begins again as healthy.
    """

    def __init__(
        self,
        rules: BreakerRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        maximum: int = 10_000,
    ) -> None:
        self.clock, self._maximum = clock, maximum
        self._rules = rules or BreakerRules()
        self._breakers: dict[Target, Breaker] = {}
        self._tripped = False  # whether one of them may not be closed
        # Keys that were refused or have no credit: until when, what to call them, and what was said of them.
        self._refused: dict[_Key, tuple[float, str, str]] = {}
        self._closed: dict[Target, float] = {}  # models that their provider refuses to this key: until when
        self._cooling: dict[Target, tuple[float, float]] = {}  # from when to when
        self._changed_at = -math.inf
        self.refusals = Refusals(clock, maximum)

    def why_not(self, target: Target, *, cooling: bool = True) -> str | None:
        """Why the deployment should not be called now, as a sentence; None where it may be. `cooling` False: rate
        limits do not matter."""
        rested = self._rested(target) if cooling else None
        return self._refused_key(target) or self._refused_model(target) or self._broken(target) or rested

    def why_none(self, user_id: str, model: str, deployments: Sequence[Deployment]) -> str | None:
        """Why the model should not be called now, at any of its deployments; None where one may be."""
        if not (self._tripped or self._refused or self._closed or self._cooling):
            return None  # as mostly, and this is asked about every candidate of every request
        reasons: dict[str, str] = {}
        for deployment in deployments:
            reason = self.why_not(Target(user_id, model, deployment))
            if reason is None:
                return None
            reasons[deployment.label] = reason
        if len(reasons) == 1:
            return next(iter(reasons.values()))
        return "; ".join(f"{label}: {reason}" for label, reason in reasons.items()) or None

    def wait_s(self, target: Target) -> float:
        """Seconds until the deployment may be called; 0 where it may be now."""
        now, breaker = self.clock(), self._breakers.get(target)
        refused_until = max(self._refused.get(target.key, (now, "", ""))[0], self._closed.get(target, now))
        _, cool_at = self._cooling.get(target, (now, now))
        probe_s = breaker.next_probe_s if breaker is not None else 0.0
        return max(refused_until - now, cool_at - now, probe_s, 0.0)

    def reserve(self, target: Target) -> None:
        """Note that a call is about to be made; a deployment that is being probed gets no other one meanwhile."""
        breaker = self._breakers.get(target)
        if breaker is not None:
            breaker.reserve()

    def record(self, target: Target, attempt: Attempt, began_s: float) -> None:
        """Note how a call ended that began at `began_s` of `clock`."""
        breaker = self._breakers.get(target) or self._add(target)
        before = breaker.state
        if attempt.status == "ok":
            self._refused.pop(target.key, None)
            self._closed.pop(target, None)
            if began_s >= self._cooling.get(target, (math.inf, 0.0))[0]:
                del self._cooling[target]
        breaker.record(is_healthy(attempt.status, attempt.error_type), began_s)
        if breaker.state != before:
            self._tripped = any(each.state != "closed" for each in self._breakers.values())
            log.warning("breaker", deployment=target.deployment.label, model=target.model, state=breaker.state)

    def refuse(self, target: Target, refused: Refused, began_s: float) -> None:
        """The provider refused its key, the credit behind it, or this model to it, in a call that began at `began_s`:
        that is skipped until the provider's configuration changes or the cool-down passes."""
        if began_s < self._changed_at:  # it may be the old key that was refused
            return
        until = self.clock() + KEY_COOL_DOWN_S
        if refused == "model":
            if len(self._closed) >= self._maximum:
                del self._closed[next(iter(self._closed))]
            self._closed[target] = until
            log.warning("model_refused", deployment=target.deployment.label, model=target.model)
            return
        deployment = target.deployment
        name = deployment.provider if deployment.key_count == 1 else f"{deployment.provider}#{deployment.key_index + 1}"
        said = "refused its API key" if refused == "key" else "has no credit left"
        self._refused[target.key] = until, name, said
        log.warning("provider_key_refused", provider=name, refused=refused)

    def cool_down(self, target: Target, retry_after_s: float | None, began_s: float) -> None:
        """A 429 of a call that began at `began_s`: others are preferred for as long as it says, or else as long as
        the deployment is configured to rest."""
        wait_s = target.deployment.cooldown_s if retry_after_s is None else min(retry_after_s, LONGEST_COOL_DOWN_S)
        if began_s >= self._changed_at and wait_s > 0.0:
            if len(self._cooling) >= self._maximum:
                del self._cooling[next(iter(self._cooling))]
            self._cooling[target] = self.clock(), self.clock() + wait_s

    def configuration_changed(self, kind: str | None, user_id: str | None, item_id: str | None) -> None:
        """Forget what was seen of a changed provider; kind None: any may have changed."""
        if kind == "model":
            self.refusals.forget(lambda owner, _, model: not user_id or (owner, model) == (user_id, item_id))
        if kind not in (None, "provider"):
            return
        self._changed_at = self.clock()
        everyone = kind is None or not user_id

        def touched(owner: str, provider: str) -> bool:
            return everyone or (owner, provider) == (user_id, item_id)

        def kept(targets: Iterable[Target]) -> list[Target]:
            return [each for each in targets if not touched(each.user_id, each.provider)]

        self.refusals.forget(lambda owner, provider, _: touched(owner, provider))
        self._refused = {key: until for key, until in self._refused.items() if not touched(*key[:2])}
        self._closed = {each: self._closed[each] for each in kept(self._closed)}
        self._cooling = {each: self._cooling[each] for each in kept(self._cooling)}
        self._breakers = {each: self._breakers[each] for each in kept(self._breakers)}

    def unhealthy_keys(self, user_id: str) -> tuple[str, ...]:
        """The owner's providers whose key was refused or has no credit left, with the number of the key (`#2`) where
        they have several."""
        now = self.clock()
        items = self._refused.items()
        return tuple(sorted(name for (owner, *_), (until, name, _) in items if owner == user_id and now < until))

    def snapshot(self, user_id: str) -> tuple[DeploymentReport, ...]:
        """Every deployment of the owner that this process has called, by provider, model and deployment."""
        mine = [target for target in self._breakers if target.user_id == user_id]
        mine.sort(
            key=lambda each: (each.provider, each.model, each.deployment.provider_model, each.deployment.key_index)
        )
        return tuple(self._report(target) for target in mine)

    def count(self, state: State) -> int:
        """How many deployments, of all owners, are in this state."""
        return sum(breaker.state == state for breaker in self._breakers.values())

    def count_refused_keys(self) -> int:
        """How many provider keys, of all owners, are skipped since they were refused."""
        now = self.clock()
        return sum(now < until for until, *_ in self._refused.values())

    def _add(self, target: Target) -> Breaker:
        if len(self._breakers) >= self._maximum:
            del self._breakers[next(iter(self._breakers))]
        breaker = self._breakers[target] = Breaker(self._rules, self.clock)
        return breaker

    def _refused_key(self, target: Target) -> str | None:
        until, name, said = self._refused.get(target.key, (-math.inf, "", ""))
        left_s = until - self.clock()
        if left_s <= 0.0:
            return None
        remedy = f"PUT /api/providers/{target.provider}"
        return f"provider {name} {said} ({remedy}), next try in {math.ceil(left_s)} s"

    def _refused_model(self, target: Target) -> str | None:
        left_s = self._closed.get(target, -math.inf) - self.clock()
        if left_s <= 0.0:
            return None
        return f"provider {target.provider} refused this model, next try in {math.ceil(left_s)} s"

    def _rested(self, target: Target) -> str | None:
        _, until = self._cooling.get(target, (0.0, -math.inf))
        left_s = until - self.clock()
        return f"rate limited, next try in {math.ceil(left_s)} s" if left_s > 0.0 else None

    def _broken(self, target: Target) -> str | None:
        breaker = self._breakers.get(target)
        if breaker is None or breaker.admits:
            return None
        since = datetime.fromtimestamp(_opened_at(breaker) or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if breaker.state == "half_open":
            return f"circuit breaker open since {since}, a probe is under way"
        return f"circuit breaker open since {since}, next probe in {math.ceil(breaker.next_probe_s)} s"

    def _report(self, target: Target) -> DeploymentReport:
        breaker = self._breakers[target]
        calls, failures = breaker.counts
        return DeploymentReport(
            provider=target.provider,
            model=target.model,
            deployment=target.deployment.label,
            state=breaker.state,
            excluded_because=self.why_not(target),
            open_since=_opened_at(breaker),
            next_probe_s=self.wait_s(target),
            calls=calls,
            failures=failures,
        )


def _opened_at(breaker: Breaker) -> float | None:
    return None if breaker.open_for_s is None else time.time() - breaker.open_for_s


class LoadBalancer:
    """Shares the load among the healthy deployments of a model, and learns from the end of each call.

    What is chosen is reserved in the same turn of the event loop, so that two requests cannot both become a probe.
    """

    def __init__(
        self, configuration: ConfigurationSource, health: DeploymentHealth, draw: random.Random | None = None
    ) -> None:
        self._configuration, self.health = configuration, health
        # Sharing the load is statistics, not secrecy.
        self._draw = draw or random.Random()  # noqa: S311

    def choose(
        self, user_id: str, model: str, deployments: Sequence[Deployment], warm: Mapping[Deployment, int] | None = None
    ) -> Target:
        """A healthy deployment, a `warm` one first, or the one that is soonest well again. `deployments` must not be
        empty."""
        blocked = self._blocked_s(user_id, model, deployments)
        return self._reserved(Target(user_id, model, choice(deployments, blocked, self._draw, warm or {})))

    def elsewhere(
        self, failed: Target, deployments: Sequence[Deployment], tried: Collection[Deployment]
    ) -> Target | None:
        """A healthy deployment of the same model that was not `tried`; None where there is none."""
        untried = [deployment for deployment in deployments if deployment not in tried]
        blocked = self._blocked_s(failed.user_id, failed.model, untried)
        deployment = healthy_choice(untried, blocked, self._draw)
        return None if deployment is None else self._reserved(Target(failed.user_id, failed.model, deployment))

    def may_be_called(self, user_id: str, model: str, deployments: Sequence[Deployment]) -> bool:
        """Whether any of the deployments is healthy."""
        return len(self._blocked_s(user_id, model, deployments)) < len(deployments)

    async def learn(
        self,
        target: Target,
        attempt: Attempt,
        began_s: float,
        *,
        retry_after_s: float | None,
        refused: Refused | None,
        alone: bool,
    ) -> None:
        """Update what is known of the deployment by how a call ended that began at `began_s` of the health's clock.

        `refused` is what the provider refused. `alone`: the model can be called nowhere else, so a 429 sends nobody
        away from it.
        """
        self.health.record(target, attempt, began_s)
        if attempt.error_type == "rate_limited" and not alone:
            self.health.cool_down(target, retry_after_s, began_s)
        if refused == "model" or (refused in ("key", "credit") and await self._has_key(target)):
            self.health.refuse(target, refused, began_s)

    async def _has_key(self, target: Target) -> bool:
        """A server that needs no key cannot have refused one, whatever its status says."""
        deployment = target.deployment
        try:
            endpoint = await self._configuration.endpoint(target.user_id, deployment.provider, deployment.key_index)
        except ModelPilotError:
            return False
        return endpoint.api_key is not None

    def _reserved(self, target: Target) -> Target:
        self.health.reserve(target)
        return target

    def _blocked_s(self, user_id: str, model: str, deployments: Sequence[Deployment]) -> dict[Deployment, float]:
        targets = [Target(user_id, model, deployment) for deployment in deployments]
        return {each.deployment: self.health.wait_s(each) for each in targets if self.health.why_not(each) is not None}


def speaks_of_deployment(attempt: Attempt) -> bool:
    """Whether another deployment of the same model may do better than this call did."""
    # A model that one provider does not know may well be known to another one, and one that has no usable key here
    # says nothing about the others.
    elsewhere = attempt.error_type in ("not_found", "configuration")
    return is_healthy(attempt.status, attempt.error_type) is False or elsewhere
