"""Where a model can be called, and which deployment the next call takes."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelpilot.providers.catalogue import DeploymentSpec, ModelSpec, ProviderSpec
from modelpilot.providers.deployments import (
    Deployment,
    Deployments,
    ProviderFacts,
    choice,
    healthy_choice,
    usable_deployments,
)
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from tests.support.routing_samples import spec

DRAWS = 4_000


def deployed(*deployments: dict[str, Any], **changes: Any) -> ModelSpec:
    """A model with these deployments."""
    return spec("m", deployments=[DeploymentSpec.model_validate(each) for each in deployments], **changes)


def labels(deployments: Deployments) -> list[str]:
    """What the usable deployments are called."""
    return [deployment.label for deployment in deployments.usable]


def shares(deployments: list[Deployment], blocked_s: dict[Deployment, float], seed: int = 7) -> dict[str, float]:
    """How often each deployment is drawn, of all draws."""
    draw = random.Random(seed)
    counts = Counter(choice(deployments, blocked_s, draw).label for _ in range(DRAWS))
    return {label: count / DRAWS for label, count in counts.items()}


@st.composite
def placements(draw: st.DrawFn) -> tuple[list[Deployment], dict[Deployment, float]]:
    """Any deployments with any number of keys, and any of them blocked."""
    deployments: list[Deployment] = []
    for number in range(draw(st.integers(1, 5))):
        weight, priority = draw(st.floats(0.01, 100.0)), draw(st.integers(0, 3))
        keys = draw(st.integers(1, 3))
        deployments += [Deployment(f"p{number}", "m", index, keys, weight, priority) for index in range(keys)]
    blocked = draw(st.dictionaries(st.sampled_from(deployments), st.floats(0.1, 300.0)))
    return deployments, blocked


@given(placements(), st.integers())
def test_no_blocked_deployment_while_any_other_is_healthy(
    given_: tuple[list[Deployment], dict[Deployment, float]], seed: int
) -> None:
    """Whatever its priority, and a higher priority number serves only when the lower ones are all blocked."""
    deployments, blocked = given_
    chosen = choice(deployments, blocked, random.Random(seed))
    healthy = [deployment for deployment in deployments if deployment not in blocked]
    if healthy:
        assert chosen in healthy
        assert chosen.priority == min(deployment.priority for deployment in healthy)
    else:
        assert blocked[chosen] == min(blocked.values())
        assert healthy_choice(deployments, blocked, random.Random(seed)) is None


@given(placements(), st.integers())
def test_a_draw_can_be_repeated(given_: tuple[list[Deployment], dict[Deployment, float]], seed: int) -> None:
    """The same seed makes the same choice: nothing else is random."""
    deployments, blocked = given_
    assert choice(deployments, blocked, random.Random(seed)) == choice(deployments, blocked, random.Random(seed))


def test_weights_share_the_load() -> None:
    """3 to 1; the weight belongs to the deployment, however many keys its provider has."""
    deployments = [
        Deployment("a", "m", weight=3.0),
        *(Deployment("b", "m", index, 4, weight=1.0) for index in range(4)),
    ]
    found = shares(deployments, {})
    assert found["a/m"] == pytest.approx(0.75, abs=0.03)
    for number in range(1, 5):
        assert found[f"b/m#{number}"] == pytest.approx(0.0625, abs=0.02)


def test_a_blocked_key_leaves_its_share_to_the_others_of_its_provider() -> None:
    """One refused key does not make its deployment smaller."""
    deployments = [
        Deployment("a", "m", weight=1.0),
        *(Deployment("b", "m", index, 2, weight=1.0) for index in range(2)),
    ]
    found = shares(deployments, {deployments[1]: 300.0})
    assert set(found) == {"a/m", "b/m#2"}
    assert found["b/m#2"] == pytest.approx(0.5, abs=0.03)


def test_where_all_are_blocked_the_soonest_is_tried() -> None:
    """A late answer beats none; ties go to the lower priority number, then the greater weight."""
    first, second, third = Deployment("a", "m"), Deployment("b", "m", weight=2.0), Deployment("c", "m", priority=1)
    draw = random.Random(0)
    assert choice([first, second], {first: 5.0, second: 300.0}, draw) == first
    assert choice([first, second, third], {first: 5.0, second: 5.0, third: 5.0}, draw) == second


def test_without_deployments_a_model_has_the_one_that_it_names() -> None:
    """As before there were several: provider and provider's model, one key."""
    assert usable_deployments(spec("sim/a")).usable == (Deployment("simulator", "a"),)
    assert labels(usable_deployments(spec("sim/a"))) == ["simulator/a"]


def test_deployments_replace_it_and_take_over_its_name() -> None:
    """The model's own provider serves nothing any more unless it is among them; keys are numbered from 1."""
    model = deployed({"provider": "x"}, {"provider": "y", "provider_model": "other", "priority": 1})
    facts = {"y": ProviderFacts("openai", 2)}
    assert labels(usable_deployments(model, None, facts)) == ["x/m", "y/other#1", "y/other#2"]


def test_openrouter_is_one_deployment() -> None:
    """`callFormat: "openrouter"` goes through OpenRouter alone, with all of its keys, under the name there."""
    model = deployed({"provider": "x"}, {"provider": "y"}, openrouter_model="them/m")
    facts = {"openrouter": ProviderFacts("openrouter", 2)}
    assert labels(usable_deployments(model, "openrouter", facts)) == ["openrouter/them/m#1", "openrouter/them/m#2"]
    assert labels(usable_deployments(spec("sim/a"), "openrouter")) == ["openrouter/sim/a"]


def test_what_cannot_serve_the_request_is_left_out() -> None:
    """Neither a provider without a key nor one that cannot honour a field; only where none is left, why."""

    def no_seeds(kind: ProviderKind | None, _: Manners) -> str | None:
        return f"{kind} has no seeds" if kind == "anthropic" else None

    model = deployed({"provider": "x"}, {"provider": "y"}, {"provider": "z"})
    facts = {"x": ProviderFacts(unavailable="x has no key"), "y": ProviderFacts("anthropic")}
    assert usable_deployments(model, None, facts, no_seeds) == Deployments((Deployment("z", "m"),))
    facts["z"] = ProviderFacts("anthropic")
    assert usable_deployments(model, None, facts, no_seeds) == Deployments((), "x has no key; anthropic has no seeds")


@pytest.mark.parametrize(
    "twice",
    [
        [{"provider": "x"}, {"provider": "x", "provider_model": "m"}],
        [{"provider": "x", "weight": 2}, {"provider": "x", "priority": 1}],
    ],
)
def test_no_deployment_twice(twice: list[dict[str, Any]]) -> None:
    """Two of the same name would have no health of their own."""
    with pytest.raises(ValidationError, match="of its own"):
        deployed(*twice)


@pytest.mark.parametrize("wrong", [{"weight": 0}, {"weight": -1}, {"priority": -1}, {"cooldownSeconds": -1}])
def test_bounds_of_a_deployment(wrong: dict[str, float]) -> None:
    """A weight is positive, a priority is not negative, and nobody cools down backwards."""
    with pytest.raises(ValidationError):
        DeploymentSpec.model_validate({"provider": "x", **wrong})


def test_keys_of_a_provider() -> None:
    """`apiKey` is the first, none counts twice, 16 are the most, and an empty list is no way to keep or to delete."""

    def keys(**fields: Any) -> tuple[str, ...]:
        return ProviderSpec.model_validate({"id": "x", "kind": "openai", **fields}).given_keys

    assert keys() == ()
    assert keys(apiKey="a") == ("a",)
    assert keys(apiKey="a", apiKeys=["b", "a"]) == ("a", "b")
    many = [f"k{number}" for number in range(16)]
    assert keys(apiKeys=many) == tuple(many)
    wrongs: list[dict[str, Any]] = [{"apiKeys": [*many, "k"]}, {"apiKey": "a", "apiKeys": many}, {"apiKeys": []}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            keys(**wrong)
    assert "k1" not in repr(ProviderSpec.model_validate({"id": "x", "kind": "openai", "apiKeys": many}))
