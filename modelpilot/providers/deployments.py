"""Where a model can be called: its deployments, one for each key of their providers, and which the next call takes.

Pure. What is healthy just now is told by the caller (`activities/requests/deployments.py` knows).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from modelpilot.providers.catalogue import DeploymentSpec, ModelSpec
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners, manners_of

OPENROUTER = "openrouter"

# Says which fields of a request a model with these manners, at a provider of this kind, cannot honour, as a sentence;
# None where it can serve it.
Dishonours = Callable[[ProviderKind | None, Manners], str | None]


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What a decision knows of a provider. `unavailable`: why it cannot be called at all. `service` is whose address
    it has (`service_of`), `parameters` what its owner says of its manners. The defaults are what is assumed of one that
    nobody has looked up."""

    kind: ProviderKind | None = None
    key_count: int = 1
    unavailable: str | None = None
    service: str = ""
    parameters: Manners | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider, under the provider's name of it, with one of the provider's keys. Two are equal where the
    same model would be called with the same key, whatever their rank and weight."""

    provider: str
    provider_model: str
    key_index: int = 0
    key_count: int = field(default=1, compare=False)
    weight: float = field(default=1.0, compare=False)
    priority: int = field(default=0, compare=False)
    cooldown_s: float = field(default=60.0, compare=False)

    @property
    def label(self) -> str:
        """`provider/providerModel`, and `#2` for the second key of several; never the key."""
        name = f"{self.provider}/{self.provider_model}"
        return name if self.key_count == 1 else f"{name}#{self.key_index + 1}"


@dataclass(frozen=True, slots=True)
class Deployments:
    """The deployments that a request for one model can go to; `why_none` is set exactly where there is none."""

    usable: tuple[Deployment, ...]
    why_none: str | None = None


_UNKNOWN = ProviderFacts()
_NOTHING_WARM: Mapping[Deployment, int] = {}


@lru_cache(maxsize=4_096)
def _implied(provider: str, provider_model: str) -> tuple[DeploymentSpec, ...]:
    # Unchecked: these names have been checked with their model, by its own rules.
    return (DeploymentSpec.model_construct(provider=provider, provider_model=provider_model),)


def deployment_specs(spec: ModelSpec, call_format: str | None = None) -> Sequence[DeploymentSpec]:
    """The deployments of a model as its owner wrote them; `callFormat: "openrouter"` sends any model through
    OpenRouter, and only there."""
    if call_format == OPENROUTER:
        return _implied(OPENROUTER, spec.openrouter_model or spec.id)
    return spec.deployments or _implied(spec.provider, spec.provider_model)


def deployment_manners(spec: ModelSpec, settings: DeploymentSpec, facts: ProviderFacts) -> Manners:
    """The manners of a model at one of its deployments."""
    name = settings.provider_model or spec.provider_model
    return manners_of(facts.kind, facts.service, name, facts.parameters, spec.parameters)


def usable_deployments(
    spec: ModelSpec,
    call_format: str | None = None,
    providers: Mapping[str, ProviderFacts] | None = None,
    dishonours: Dishonours = lambda kind, manners: None,
) -> Deployments:
    """The deployments of a model that can be called and can serve the request, each with each of its keys.

    `dishonours` is what keeps a model with certain manners from serving this request.
    """
    usable: list[Deployment] = []
    reasons: dict[str, None] = {}
    for each in deployment_specs(spec, call_format):
        facts = (providers or {}).get(each.provider, _UNKNOWN)
        reason = facts.unavailable or dishonours(facts.kind, deployment_manners(spec, each, facts))
        if reason is None:
            usable += _with_keys(spec, each, facts.key_count)
        else:
            reasons[reason] = None
    return Deployments(tuple(usable), None if usable else "; ".join(reasons))


def _with_keys(spec: ModelSpec, settings: DeploymentSpec, key_count: int) -> tuple[Deployment, ...]:
    name = settings.provider_model or spec.provider_model
    shares = settings.weight, settings.priority, settings.cooldown_seconds
    return _with_each_key(settings.provider, name, max(key_count, 1), *shares)


@lru_cache(maxsize=4_096)
def _with_each_key(
    provider: str, provider_model: str, key_count: int, weight: float, priority: int, cooldown_s: float
) -> tuple[Deployment, ...]:
    # The same for every request, of which each asks for the deployments of every candidate.
    keys = range(key_count)
    return tuple(Deployment(provider, provider_model, key, key_count, weight, priority, cooldown_s) for key in keys)


def healthy_choice(
    deployments: Sequence[Deployment],
    blocked_s: Mapping[Deployment, float],
    draw: random.Random,
    warm: Mapping[Deployment, int] = _NOTHING_WARM,
) -> Deployment | None:
    """One of the deployments that nothing is known against; None where there is none.

    `blocked_s` has the seconds until each of the others may be called. The lowest priority number with anybody healthy
    serves. Within it the one that has most tokens of the conversation in its cache (`warm`) goes on with it; else a
    deployment is drawn by weight, and then one of its healthy keys, all alike.
    """
    healthy = [deployment for deployment in deployments if deployment not in blocked_s]
    if len(healthy) < 2:
        return healthy[0] if healthy else None
    first = min(deployment.priority for deployment in healthy)
    best = max((each for each in healthy if each.priority == first), key=lambda each: warm.get(each, -1))
    if best in warm:
        return best
    keys_of: dict[tuple[str, str], list[Deployment]] = {}
    for deployment in healthy:
        if deployment.priority == first:
            keys_of.setdefault((deployment.provider, deployment.provider_model), []).append(deployment)
    groups = list(keys_of.values())
    (keys,) = draw.choices(groups, [keys[0].weight for keys in groups])
    return draw.choice(keys)


def choice(
    deployments: Sequence[Deployment],
    blocked_s: Mapping[Deployment, float],
    draw: random.Random,
    warm: Mapping[Deployment, int] = _NOTHING_WARM,
) -> Deployment:
    """A healthy deployment, or where there is none the one that is soonest to be called again: a late answer beats
    none.

    `deployments` must not be empty.
    """
    healthy = healthy_choice(deployments, blocked_s, draw, warm)
    return healthy or min(
        deployments,
        key=lambda deployment: (blocked_s[deployment], deployment.priority, -deployment.weight, deployment.key_index),
    )
