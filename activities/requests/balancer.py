"""The choice among a model's deployments by what this process has seen of them, and what is learnt from each call."""

import random
from collections.abc import Collection, Mapping, Sequence

from activities.requests.deployments import RATE_LIMITED, TOLD_TO_WAIT, DeploymentHealth, Target
from modelpilot.errors import ModelPilotError
from modelpilot.providers.breaker import is_healthy
from modelpilot.providers.deployments import Deployment, choice, healthy_choice
from modelpilot.requests.outcome import Attempt, Refused
from modelpilot.requests.ports import ConfigurationSource

# Failures whose Retry-After says when the deployment may be called again.
_PAUSES = {"rate_limited": RATE_LIMITED, "overloaded": TOLD_TO_WAIT, "server_error": TOLD_TO_WAIT}


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
        hasty: bool = False,
    ) -> None:
        """Update what is known of the deployment by how a call ended that began at `began_s` of the health's clock.

        `refused` is what the provider refused. `alone`: the model can be called nowhere else, so it rests only where
        its provider asks for that. `hasty` as for `DeploymentHealth.record`.
        """
        self.health.record(target, attempt, began_s, hasty=hasty)
        pause = _PAUSES.get(attempt.error_type or "")
        if pause is not None and (retry_after_s is not None or (pause == RATE_LIMITED and not alone)):
            self.health.cool_down(target, retry_after_s, began_s, pause)
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
