"""What a candidate's provider cannot do excludes it: fields it has nothing for, formats it cannot be called in."""

import random
from dataclasses import replace
from typing import Any

import pytest

from modelpilot.errors import NoCandidate
from modelpilot.providers.deployments import ProviderFacts
from modelpilot.requests.records import Neighbours, RouterSnapshot
from modelpilot.routing.decision import Decision
from modelpilot.routing.selection import decide
from tests.support.routing_samples import profile, router, snapshot, spec

NONE = Neighbours.empty()
CLAUDE = spec("anthropic/claude", provider="anthropic", quality_score=0.9)
GPT = spec("openai/gpt", provider="openai", quality_score=0.5)
TWO: dict[str, Any] = {"n": 2}


def over(**changes: Any) -> RouterSnapshot:
    """A router that prefers claude for its quality, with both as fallbacks."""
    strategy = {"fallback_models": [CLAUDE.id, GPT.id]}
    fields: dict[str, Any] = {"objective": {"quality_weight": 1.0}, "fallback_strategy": strategy, **changes}
    shot = snapshot(router(CLAUDE.id, GPT.id, **fields), CLAUDE, GPT)
    return replace(shot, providers={"anthropic": ProviderFacts("anthropic"), "openai": ProviderFacts("openai")})


def choose(shot: RouterSnapshot, **fields: Any) -> Decision:
    """The decision for a simple question."""
    return decide(shot, profile(**fields), NONE, random.Random(0))


def test_a_field_that_a_provider_cannot_honour_excludes_it() -> None:
    """The reason names the field; without it the same model is chosen."""
    shot = over()
    assert choose(shot).selected == CLAUDE.id
    decision = choose(shot, **TWO)
    assert decision.selected == GPT.id
    assert decision.candidates[0].excluded_because == "its provider (anthropic) cannot honour n (at most 1)"


def test_what_one_request_cannot_use_the_next_one_can() -> None:
    """A router's deployments are kept between requests, for each set of fields and each format apart."""
    shot = replace(over(), providers={**over().providers, "openrouter": ProviderFacts("openrouter")})
    through_openrouter = {"modelpilot": {"callFormat": "openrouter"}}
    for _ in range(2):
        assert choose(shot).selected == CLAUDE.id
        assert choose(shot, **TWO).selected == GPT.id
        assert choose(shot, **TWO, **through_openrouter).selected == CLAUDE.id


def test_fallbacks_are_filtered_likewise() -> None:
    """A fallback must not drop what the decided model was chosen for."""
    assert choose(over()).fallbacks == (CLAUDE.id, GPT.id)
    assert choose(over(), **TWO).fallbacks == (GPT.id,)


def test_nobody_left_says_which_fields() -> None:
    """422 with the field in its message, not a silently dropped one."""
    shot = replace(over(), providers=dict.fromkeys(("anthropic", "openai"), ProviderFacts("anthropic")))
    with pytest.raises(NoCandidate, match=r"openai/gpt: its provider \(anthropic\) cannot honour n \(at most 1\)"):
        choose(shot, **TWO)


@pytest.mark.parametrize(
    ("mine", "asked"), [({"call_format": "openrouter"}, {}), ({}, {"modelpilot": {"callFormat": "openrouter"}})]
)
def test_through_openrouter_its_own_limits_count(mine: dict[str, Any], asked: dict[str, Any]) -> None:
    """Router or request: the kind is openrouter, and so is what may be missing."""
    assert choose(over(**mine), **TWO, **asked).selected == CLAUDE.id


def test_a_request_may_ask_for_openrouter() -> None:
    """Providers without a key are no hindrance then, a missing OpenRouter key is; unknown models stay unknown."""
    asked = {"modelpilot": {"callFormat": "openrouter"}}
    keyless = replace(over(), unavailable={CLAUDE.id: "no key", GPT.id: "no key"})
    assert choose(keyless, **asked).selected == CLAUDE.id
    with pytest.raises(NoCandidate, match="no key"):
        choose(keyless)
    with pytest.raises(NoCandidate, match="openrouter has no key"):
        choose(replace(over(), providers={"openrouter": ProviderFacts(unavailable="openrouter has no key")}), **asked)
    stranger = snapshot(router("ghost/x"), unavailable={"ghost/x": "is not in the catalogue (PUT …)"})
    with pytest.raises(NoCandidate, match="PUT"):
        choose(stranger, **asked)
