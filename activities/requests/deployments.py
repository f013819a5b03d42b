"""What this process has seen of the deployments of models: breakers, refused keys and models, rate limits."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from activities.requests.refusals import Refusals
from modelpilot.management.resources import HealthScope
from modelpilot.metrics.use import DeploymentState
from modelpilot.providers.breaker import Breaker, BreakerRules, State, is_healthy
from modelpilot.providers.deployments import Deployment
from modelpilot.requests.outcome import Attempt, Refused

log = structlog.get_logger(__name__)

# A refused key or model is tried again after this, even if nobody changed it here: it may have been mended at the
# provider.
KEY_COOL_DOWN_S = 300.0
# A provider's Retry-After is believed up to this.
LONGEST_COOL_DOWN_S = 600.0
# Why a deployment rests.
RATE_LIMITED, TOLD_TO_WAIT = "rate limited", "its provider asked for a pause"

_Key = tuple[str, str, int]  # owner, provider, index of the key
_Place = TypeVar("_Place")
_Seen = TypeVar("_Seen")


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
        self._cooling: dict[Target, tuple[float, float]] = {}  # our own guess at how long: from when to when
        self._asked: dict[Target, tuple[float, str]] = {}  # providers that named a time: until when, and why
        self._changed_at = -math.inf
        self.refusals = Refusals(clock, maximum)

    def why_not(self, target: Target, *, cooling: bool = True) -> str | None:
        """Why the deployment should not be called now, as a sentence; None where it may be. `cooling` False: rate
        limits do not matter."""
        rested = self._rested(target) if cooling else None
        return self._refused_key(target) or self._refused_model(target) or self._broken(target) or rested

    def why_none(self, user_id: str, model: str, deployments: Sequence[Deployment]) -> str | None:
        """Why the model should not be called now, at any of its deployments; None where one may be."""
        if not (self._tripped or self._refused or self._closed or self._cooling or self._asked):
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
        probe_s = breaker.next_probe_s if breaker is not None else 0.0
        return max(refused_until - now, self._rests_until(target) - now, probe_s, 0.0)

    def asked_until(self, target: Target) -> float:
        """Until when, of `clock`, the provider has asked not to be called there; -inf where it has not."""
        return self._asked.get(target, (-math.inf, ""))[0]

    def reserve(self, target: Target) -> None:
        """Note that a call is about to be made; a deployment that is being probed gets no other one meanwhile."""
        breaker = self._breakers.get(target)
        if breaker is not None:
            breaker.reserve()

    def record(self, target: Target, attempt: Attempt, began_s: float, *, hasty: bool = False) -> None:
        """Note how a call ended that began at `began_s` of `clock`. `hasty`: it failed at a limit of its caller that
        is too short to say anything."""
        breaker = self._breakers.get(target) or self._add(target)
        before = breaker.state
        if attempt.status == "ok":
            self._refused.pop(target.key, None)
            self._closed.pop(target, None)
            if began_s >= self._cooling.get(target, (math.inf, 0.0))[0]:
                del self._cooling[target]
            if self.clock() >= self.asked_until(target):
                self._asked.pop(target, None)
        breaker.record(None if hasty else is_healthy(attempt.status, attempt.error_type), began_s)
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
            self._keep(self._closed, target, until)
            log.warning("model_refused", deployment=target.deployment.label, model=target.model)
            return
        deployment = target.deployment
        name = deployment.provider if deployment.key_count == 1 else f"{deployment.provider}#{deployment.key_index + 1}"
        said = "refused its API key" if refused == "key" else "has no credit left"
        self._refused[target.key] = until, name, said
        log.warning("provider_key_refused", provider=name, refused=refused)

    def cool_down(self, target: Target, retry_after_s: float | None, began_s: float, why: str = RATE_LIMITED) -> None:
        """A 429, or another `why`, of a call that began at `began_s`: others are preferred for as long as the provider
        asks, of several wishes the longest, or else as long as the deployment is configured to rest.

        What the provider asked for is kept, whatever other calls bring; our own guess ends with a success.
        """
        now, wait_s = self.clock(), target.deployment.cooldown_s if retry_after_s is None else retry_after_s
        if began_s < self._changed_at or wait_s <= 0.0:
            return
        if retry_after_s is None:
            self._keep(self._cooling, target, (now, now + wait_s))
        elif (until := now + min(wait_s, LONGEST_COOL_DOWN_S)) > self.asked_until(target):
            self._keep(self._asked, target, (until, why))

    def configuration_changed(self, kind: str | None, user_id: str | None, item_id: str | None) -> None:
        """Forget what was seen of a changed provider; kind None: any may have changed."""
        if kind == "model":
            self.refusals.forget(lambda owner, _, model: not user_id or (owner, model) == (user_id, item_id))
        if kind not in (None, "provider"):
            return
        self._changed_at = self.clock()
        everyone = kind is None or not user_id
        self._forget(lambda owner, provider, _: everyone or (owner, provider) == (user_id, item_id))

    def reset(self, user_id: str, scope: HealthScope) -> int:
        """Let the owner's deployments of this scope begin again as healthy; how many of them were skipped until now. A
        refused key is one of every model that was called with it."""

        def meant(owner: str, provider: str, model: str) -> bool:
            return owner == user_id and scope.has(provider, model)

        targets = [each for each in self._breakers if meant(each.user_id, each.provider, each.model)]
        skipped = sum(self.why_not(each) is not None for each in targets)
        for target in targets:
            self._refused.pop(target.key, None)
        self._forget(meant)
        log.info("deployments_reset", user_id=user_id, scope=scope.subject, skipped=skipped)
        return skipped

    def _forget(self, touched: Callable[[str, str, str], bool]) -> None:
        """Forget what was seen where (owner, provider, model) are `touched`; keys have no model, "" instead."""

        def kept(seen: dict[Target, _Seen]) -> dict[Target, _Seen]:
            return {each: seen[each] for each in seen if not touched(each.user_id, each.provider, each.model)}

        self.refusals.forget(touched)
        self._refused = {key: said for key, said in self._refused.items() if not touched(*key[:2], "")}
        self._closed, self._cooling, self._asked = kept(self._closed), kept(self._cooling), kept(self._asked)
        self._breakers = kept(self._breakers)

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

    def skipped(self) -> tuple[DeploymentState, ...]:
        """The deployments, of all owners, that are not called just as they are wanted."""
        reports = ((target.user_id, self._report(target)) for target in self._breakers)
        return tuple(_state(user_id, report) for user_id, report in reports if _is_skipped(report))

    def count(self, state: State) -> int:
        """How many deployments, of all owners, are in this state."""
        return sum(breaker.state == state for breaker in self._breakers.values())

    def count_refused_keys(self) -> int:
        """How many provider keys, of all owners, are skipped since they were refused."""
        now = self.clock()
        return sum(now < until for until, *_ in self._refused.values())

    def _add(self, target: Target) -> Breaker:
        breaker = Breaker(self._rules, self.clock)
        self._keep(self._breakers, target, breaker)
        return breaker

    def _keep(self, seen: dict[_Place, _Seen], place: _Place, what: _Seen) -> None:
        if place not in seen and len(seen) >= self._maximum:
            del seen[next(iter(seen))]
        seen[place] = what

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

    def _rests_until(self, target: Target) -> float:
        _, until = self._cooling.get(target, (0.0, -math.inf))
        return max(until, self.asked_until(target))

    def _rested(self, target: Target) -> str | None:
        left_s = self._rests_until(target) - self.clock()
        if left_s <= 0.0:
            return None
        _, why = self._asked.get(target, (0.0, RATE_LIMITED))
        return f"{why}, next try in {math.ceil(left_s)} s"

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


def _is_skipped(report: DeploymentReport) -> bool:
    return report.state != "closed" or report.excluded_because is not None


def _state(user_id: str, report: DeploymentReport) -> DeploymentState:
    # In whole seconds: two looks at the same rest are the same.
    opened_s = None if report.open_since is None else float(round(report.open_since))
    next_probe_s = float(round(time.time() + report.next_probe_s))
    # What is said of a breaker has the seconds until its probe in it.
    because = report.excluded_because if report.state == "closed" else None
    where = (user_id, report.provider, report.model, report.deployment)
    return DeploymentState(*where, report.state, because, opened_s, next_probe_s)


def _opened_at(breaker: Breaker) -> float | None:
    return None if breaker.open_for_s is None else time.time() - breaker.open_for_s
