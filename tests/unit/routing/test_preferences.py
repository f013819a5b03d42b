"""What a single request prefers: OpenRouter's `models` and `provider`, LiteLLM's `fallbacks`."""

from typing import Any

import pytest
from pydantic import ValidationError

from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest
from modelpilot.providers.catalogue import DeploymentSpec, ModelSpec, UnitPrice
from modelpilot.providers.deployments import deployment_specs
from modelpilot.requests.records import RouterSnapshot
from modelpilot.routing.preferences import Preferences, ProviderPreferences, followed
from modelpilot.routing.router import Router

PLAIN = ModelSpec(
    id="plain", provider="openai", provider_model="p", cost_per_input_token=1e-6, cost_per_output_token=4e-6
)
SPREAD = ModelSpec(
    id="spread",
    provider="azure",
    provider_model="s",
    deployments=[
        DeploymentSpec(provider="azure"),
        DeploymentSpec(provider="groq", priority=1),
        DeploymentSpec(provider="openrouter", priority=2),
    ],
)
ROUTER = Router(id="r", available_models=["plain", "spread"])
SNAPSHOT = RouterSnapshot("alice", ROUTER, 1, {"plain": PLAIN, "spread": SPREAD}, {})


def narrowed(**provider: Any) -> RouterSnapshot:
    """The router as it is with these preferences of providers."""
    return followed(SNAPSHOT, Preferences(provider=ProviderPreferences.model_validate(provider)))


def places(snapshot: RouterSnapshot) -> list[tuple[str, int]]:
    """Where the second model can be called, with priorities."""
    return [(each.provider, each.priority) for each in deployment_specs(snapshot.models["spread"])]


def test_models_stand_in_for_the_first_in_their_order() -> None:
    """Each once; the router's own fallbacks do not count for this request."""
    found = followed(SNAPSHOT, Preferences((("models[0]", "spread"), ("models[1]", "plain"))))
    strategy = found.router.fallback_strategy
    assert (strategy.fallback_models, strategy.retry_attempts) == (["spread", "plain"], 2)
    assert SNAPSHOT.router.fallback_strategy.fallback_models == []


def test_a_request_narrows_and_never_widens() -> None:
    """A model that the router has not is refused, with the field that names it."""
    with pytest.raises(InvalidRequest, match="router r has no 'other'") as raised:
        followed(SNAPSHOT, Preferences((("fallbacks[0]", "other"),)))
    assert raised.value.param == "fallbacks[0]"


@pytest.mark.parametrize(
    ("provider", "left"),
    [
        ({"only": ["Groq"]}, [("groq", 1), ("openrouter", 2)]),
        ({"ignore": ["azure"]}, [("groq", 1), ("openrouter", 2)]),
        ({"ignore": ["azure", "openrouter"]}, [("groq", 1)]),
        ({"order": ["groq"]}, [("groq", 0), ("azure", 1), ("openrouter", 2)]),
        ({"order": ["groq"], "allow_fallbacks": False}, [("groq", 0), ("openrouter", 1)]),
        ({"allow_fallbacks": False}, [("azure", 0)]),
        ({"zdr": True}, [("openrouter", 2)]),
        (
            {"zdr": False, "data_collection": "allow", "quantizations": []},
            [("azure", 0), ("groq", 1), ("openrouter", 2)],
        ),
    ],
)
def test_deployments_are_chosen_and_ordered(provider: dict[str, Any], left: list[tuple[str, int]]) -> None:
    """OpenRouter stays where it is not ignored: it is told the preferences, and follows them among its own."""
    assert places(narrowed(**provider)) == left


@pytest.mark.parametrize(
    ("provider", "reason"),
    [
        ({"only": ["azure"]}, "provider.only does not name openai"),
        ({"ignore": ["openai"]}, "provider.ignore names openai"),
        ({"quantizations": ["fp8"]}, "provider.quantizations: only OpenRouter can follow this"),
        ({"max_price": {"prompt": 0.5}}, "costs 1 USD, over provider.max_price.prompt of 0.5"),
        ({"max_price": {"prompt": 1, "completion": 3}}, "costs 4 USD, over provider.max_price.completion of 3"),
    ],
)
def test_a_model_that_is_left_out_says_why(provider: dict[str, Any], reason: str) -> None:
    """Never silently: the sentence is its `excludedBecause`."""
    assert narrowed(**provider).unavailable["plain"] == reason


def test_unknown_prices_are_over_every_limit_and_known_ones_may_be_within() -> None:
    """As with `maxCostUsd`; what is not charged for has no price that could be over one."""
    found = narrowed(max_price={"prompt": 1, "completion": 4, "request": 0, "image": 0})
    assert "plain" not in found.unavailable
    assert "unknown" in found.unavailable["spread"]
    priced = PLAIN.model_copy(update={"prices": [UnitPrice(unit="request", usd=0.01)]})
    snapshot = RouterSnapshot("alice", ROUTER, 1, {"plain": priced}, {})
    wanted = Preferences(provider=ProviderPreferences(max_price={"request": 0.001}))
    assert followed(snapshot, wanted).unavailable["plain"].startswith("costs 0.01 USD")


@pytest.mark.parametrize(
    ("sort", "shares"),
    [
        ("price", (1.0, 0.0, 0.0, 0.0)),
        ("latency", (0.0, 1.0, 0.0, 0.0)),
        ("throughput", (0.0, 1.0, 0.0, 0.0)),
        ({"by": "price", "partition": "none"}, (1.0, 0.0, 0.0, 0.0)),
        (None, ROUTER.objective.shares()),
    ],
)
def test_sort_is_the_objective(sort: Any, shares: tuple[float, ...]) -> None:
    """For this request."""
    assert narrowed(sort=sort).router.objective.shares() == shares


def test_parameters_that_must_be_taken_make_the_router_strict() -> None:
    """A hint that a model has nothing for excludes it then."""
    assert narrowed(require_parameters=True).router.strict_parameters
    assert not narrowed(require_parameters=False).router.strict_parameters


MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": "a"},
        {"models": ["m"] * 33},
        {"route": "sort"},
        {"fallbacks": [{"model": "a", "messages": []}]},
        {"fallbacks": [{"gpt-4": ["a"]}]},
        {"provider": "groq"},
        {"provider": {"order": "groq"}},
        {"provider": {"sort": "taste"}},
        {"provider": {"max_price": {"prompt": -1}}},
        {"provider": {"max_price": {"typo": 1}}},
    ],
)
def test_what_cannot_be_followed_is_refused(wrong: dict[str, Any]) -> None:
    """In words of the field, and not ignored."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ChatBody.model_validate({"messages": MESSAGES, **wrong})


def test_every_named_model_is_found_with_its_field() -> None:
    """The first is asked first."""
    said = {"model": "a", "models": ["a", "b"], "fallbacks": ["c", {"model": "d"}], "route": "fallback"}
    body = ChatBody.model_validate({"messages": MESSAGES, **said})
    assert list(body.named()) == [
        ("model", "a"), ("models[0]", "a"), ("models[1]", "b"), ("fallbacks[0]", "c"), ("fallbacks[1]", "d"),
    ]  # fmt: skip
