"""Which deployment of a model is called: what this process has seen of each (breaker, refused key, rate limit), and
the choice among them.
"""

import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from modelpilot.errors import ModelPilotError
from modelpilot.providers.breaker import Breaker, BreakerRules, State, is_healthy, refuses_key
from modelpilot.providers.deployments import Place, choice, healthy_choice
from modelpilot.requests.outcome import Attempt
from modelpilot.requests.ports import ConfigurationSource

log = structlog.get_logger(__name__)

# A refused key is tried again after this, even if nobody changed it here: it may have been mended at the provider.
KEY_COOL_DOWN_S = 300.0
# A provider's Retry-After is believed up to this.
LONGEST_COOL_DOWN_S = 600.0
# Bounds memory; beyond it the deployment that was seen first is forgotten, and begins again as healthy.
MAXIMUM_DEPLOYMENTS = 10_000

_Key = tuple[str, str, int]  # owner, provider, index of the key


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at one place, of one owner: providers of the same id are different ones for different owners."""

    user_id: str
    model: str
    place: Place

    @property
    def provider(self) -> str:
        """The provider's id."""
        return self.place.provider

    @property
    def key(self) -> _Key:
        """The key that it is called with: a refused key is refused for all models behind it."""
        return self.user_id, self.place.provider, self.place.key_index


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

    Per process, so that no request waits for anybody's opinion; another gateway learns the same within a few calls.
    """

    def __init__(self, rules: BreakerRules | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._rules = rules or BreakerRules()
        self._breakers: dict[Deployment, Breaker] = {}
        self._tripped = False  # whether one of them may not be closed
        self._refused: dict[_Key, tuple[float, str]] = {}  # when it may be tried again, and what to call it
        self._cooling: dict[Deployment, tuple[float, float]] = {}  # from when to when
        self._changed_at = -math.inf

    def why_not(self, deployment: Deployment, *, cooling: bool = True) -> str | None:
        """Why the deployment should not be called now, as a sentence; None where it may be. `cooling` False: rate
        limits do not matter."""
        rested = self._rested(deployment) if cooling else None
        return self._refused_key(deployment) or self._broken(deployment) or rested

    def why_none(self, user_id: str, model: str, places: Sequence[Place]) -> str | None:
        """Why the model should not be called now, at any of its places; None where one may be."""
        if not (self._tripped or self._refused or self._cooling):
            return None  # as mostly, and this is asked about every candidate of every request
        reasons: dict[str, str] = {}
        for place in places:
            reason = self.why_not(Deployment(user_id, model, place))
            if reason is None:
                return None
            reasons[place.label] = reason
        if len(reasons) == 1:
            return next(iter(reasons.values()))
        return "; ".join(f"{label}: {reason}" for label, reason in reasons.items()) or None

    def wait_s(self, deployment: Deployment) -> float:
        """Seconds until the deployment may be called; 0 where it may be now."""
        now, breaker = self.clock(), self._breakers.get(deployment)
        refused_until, _ = self._refused.get(deployment.key, (now, ""))
        _, cool_at = self._cooling.get(deployment, (now, now))
        probe_s = breaker.next_probe_s if breaker is not None else 0.0
        return max(refused_until - now, cool_at - now, probe_s, 0.0)

    def reserve(self, deployment: Deployment) -> None:
        """Note that a call is about to be made; a deployment that is being probed gets no other one meanwhile."""
        breaker = self._breakers.get(deployment)
        if breaker is not None:
            breaker.reserve()

    def record(self, deployment: Deployment, attempt: Attempt, began_s: float) -> None:
        """Note how a call ended that began at `began_s` of `clock`."""
        breaker = self._breakers.get(deployment) or self._add(deployment)
        before = breaker.state
        if attempt.status == "ok":
            self._refused.pop(deployment.key, None)
            if began_s >= self._cooling.get(deployment, (math.inf, 0.0))[0]:
                del self._cooling[deployment]
        breaker.record(is_healthy(attempt.status, attempt.error_type), began_s)
        if breaker.state != before:
            self._tripped = any(each.state != "closed" for each in self._breakers.values())
            log.warning("breaker", deployment=deployment.place.label, model=deployment.model, state=breaker.state)

    def refuse_key(self, deployment: Deployment, began_s: float) -> None:
        """The provider refused its key in a call that began at `began_s`: it is skipped until the provider's
        configuration changes or the cool-down passes."""
        if began_s >= self._changed_at:  # otherwise it may be the old key that was refused
            place = deployment.place
            name = place.provider if place.key_count == 1 else f"{place.provider}#{place.key_index + 1}"
            self._refused[deployment.key] = self.clock() + KEY_COOL_DOWN_S, name
            log.warning("provider_key_refused", provider=name)

    def cool_down(self, deployment: Deployment, retry_after_s: float | None, began_s: float) -> None:
        """A 429 of a call that began at `began_s`: others are preferred for as long as it says, or else as long as
        the deployment is configured to rest."""
        wait_s = deployment.place.cooldown_s if retry_after_s is None else min(retry_after_s, LONGEST_COOL_DOWN_S)
        if began_s >= self._changed_at and wait_s > 0.0:
            if len(self._cooling) >= MAXIMUM_DEPLOYMENTS:
                del self._cooling[next(iter(self._cooling))]
            self._cooling[deployment] = self.clock(), self.clock() + wait_s

    def configuration_changed(self, kind: str | None, user_id: str | None, item_id: str | None) -> None:
        """Forget what was seen of a changed provider; kind None: any may have changed."""
        if kind not in (None, "provider"):
            return
        self._changed_at = self.clock()
        everyone = kind is None or not user_id

        def touched(owner: str, provider: str) -> bool:
            return everyone or (owner, provider) == (user_id, item_id)

        def kept(deployments: Iterable[Deployment]) -> list[Deployment]:
            return [each for each in deployments if not touched(each.user_id, each.provider)]

        self._refused = {key: until for key, until in self._refused.items() if not touched(*key[:2])}
        self._cooling = {each: self._cooling[each] for each in kept(self._cooling)}
        self._breakers = {each: self._breakers[each] for each in kept(self._breakers)}

    def unhealthy_keys(self, user_id: str) -> tuple[str, ...]:
        """The owner's providers whose key was refused, with the number of the key (`#2`) where they have several."""
        now = self.clock()
        items = self._refused.items()
        return tuple(sorted(name for (owner, *_), (until, name) in items if owner == user_id and now < until))

    def snapshot(self, user_id: str) -> tuple[DeploymentReport, ...]:
        """Every deployment of the owner that this process has called, by provider, model and deployment."""
        mine = [deployment for deployment in self._breakers if deployment.user_id == user_id]
        mine.sort(key=lambda each: (each.provider, each.model, each.place.provider_model, each.place.key_index))
        return tuple(self._report(deployment) for deployment in mine)

    def count(self, state: State) -> int:
        """How many deployments, of all owners, are in this state."""
        return sum(breaker.state == state for breaker in self._breakers.values())

    def count_refused_keys(self) -> int:
        """How many provider keys, of all owners, are skipped since they were refused."""
        now = self.clock()
        return sum(now < until for until, _ in self._refused.values())

    def _add(self, deployment: Deployment) -> Breaker:
        if len(self._breakers) >= MAXIMUM_DEPLOYMENTS:
            del self._breakers[next(iter(self._breakers))]
        breaker = self._breakers[deployment] = Breaker(self._rules, self.clock)
        return breaker

    def _refused_key(self, deployment: Deployment) -> str | None:
        until, name = self._refused.get(deployment.key, (-math.inf, ""))
        left_s = until - self.clock()
        if left_s <= 0.0:
            return None
        remedy = f"PUT /api/providers/{deployment.provider}"
        return f"provider {name} refused its API key ({remedy}), next try in {math.ceil(left_s)} s"

    def _rested(self, deployment: Deployment) -> str | None:
        _, until = self._cooling.get(deployment, (0.0, -math.inf))
        left_s = until - self.clock()
        return f"rate limited, next try in {math.ceil(left_s)} s" if left_s > 0.0 else None

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
            deployment=deployment.place.label,
            state=breaker.state,
            excluded_because=self.why_not(deployment),
            open_since=_opened_at(breaker),
            next_probe_s=self.wait_s(deployment),
            calls=calls,
            failures=failures,
        )


def _opened_at(breaker: Breaker) -> float | None:
    return None if breaker.open_for_s is None else time.time() - breaker.open_for_s


class Targets:
    """Shares the load among the healthy deployments of a model, and learns from the end of each call.

    What is chosen is reserved in the same turn of the event loop, so that two requests cannot both become a probe.
    """

    def __init__(
        self, configuration: ConfigurationSource, health: DeploymentHealth, draw: random.Random | None = None
    ) -> None:
        self._configuration, self.health = configuration, health
        # Sharing the load is statistics, not secrecy.
        self._draw = draw or random.Random()  # noqa: S311

    def choose(self, user_id: str, model: str, places: Sequence[Place]) -> Deployment:
        """A healthy deployment, or the one that is soonest well again. `places` must not be empty."""
        blocked = self._blocked_s(user_id, model, places)
        return self._reserved(Deployment(user_id, model, choice(places, blocked, self._draw)))

    def elsewhere(self, failed: Deployment, places: Sequence[Place], tried: Collection[Place]) -> Deployment | None:
        """A healthy deployment of the same model at a place that was not `tried`; None where there is none."""
        untried = [place for place in places if place not in tried]
        blocked = self._blocked_s(failed.user_id, failed.model, untried)
        place = healthy_choice(untried, blocked, self._draw)
        return None if place is None else self._reserved(Deployment(failed.user_id, failed.model, place))

    def may_be_called(self, user_id: str, model: str, places: Sequence[Place]) -> bool:
        """Whether any of the places is healthy."""
        return len(self._blocked_s(user_id, model, places)) < len(places)

    async def learn(
        self, deployment: Deployment, attempt: Attempt, began_s: float, *, retry_after_s: float | None, alone: bool
    ) -> None:
        """Update what is known of the deployment by how a call ended that began at `began_s` of the health's clock.

        `alone`: the model can be called nowhere else, so a 429 sends nobody away from it.
        """
        self.health.record(deployment, attempt, began_s)
        if attempt.error_type == "rate_limited" and not alone:
            self.health.cool_down(deployment, retry_after_s, began_s)
        if refuses_key(attempt.error_type, attempt.http_status) and await self._has_key(deployment):
            self.health.refuse_key(deployment, began_s)

    async def _has_key(self, deployment: Deployment) -> bool:
        """A server that needs no key cannot have refused one, whatever its status says."""
        place = deployment.place
        try:
            endpoint = await self._configuration.endpoint(deployment.user_id, place.provider, place.key_index)
        except ModelPilotError:
            return False
        return endpoint.api_key is not None

    def _reserved(self, deployment: Deployment) -> Deployment:
        self.health.reserve(deployment)
        return deployment

    def _blocked_s(self, user_id: str, model: str, places: Sequence[Place]) -> dict[Place, float]:
        deployments = [Deployment(user_id, model, place) for place in places]
        return {each.place: self.health.wait_s(each) for each in deployments if self.health.why_not(each) is not None}


def speaks_of_deployment(attempt: Attempt) -> bool:
    """Whether another deployment of the same model may do better than this call did."""
    # A model that one provider does not know may well be known to another one, and one that has no usable key here
    # says nothing about the others.
    elsewhere = attempt.error_type in ("not_found", "configuration")
    return is_healthy(attempt.status, attempt.error_type) is False or elsewhere
