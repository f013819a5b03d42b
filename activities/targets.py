"""Which deployment a call goes to, and what its end says of that deployment."""

import random
from collections.abc import Collection, Sequence

from activities.health import Deployment, DeploymentHealth
from modelpilot.errors import ModelPilotError
from modelpilot.providers.breaker import is_healthy, refuses_key
from modelpilot.providers.deployments import Place, choice, healthy_choice
from modelpilot.requests.outcome import Attempt
from modelpilot.requests.ports import ConfigurationSource


class Targets:
    """Shares the load among the healthy deployments of a model. What is chosen is reserved in the same turn of the
    event loop, so that two requests cannot both become a probe."""

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
        """The end of a call that began at `began_s` of the health's clock: told to the deployment's breaker, its rate
        limit, and the record of its key.

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
