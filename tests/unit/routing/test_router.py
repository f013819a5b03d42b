"""The router body: what it accepts, and how a request narrows it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelpilot.chat.body import ChatBody
from modelpilot.routing.router import Constraints, FieldChange, Objective, Router, added_and_removed, differences

WEIGHTS = ("costWeight", "latencyWeight", "qualityWeight", "carbonWeight")
# Every field, as docs/api.md describes it.
DOCUMENTED: dict[str, Any] = {
    "id": "support",
    "name": "Support bot",
    "aliases": [],
    "mode": "smartRouter",
    "preferredModel": None,
    "availableModels": ["sim/small", "sim/medium", "sim/large"],
    "objective": {"costWeight": 0.5, "latencyWeight": 0.2, "qualityWeight": 0.3, "carbonWeight": 0},
    "fallbackStrategy": {"fallbackModels": ["sim/medium"], "retryAttempts": 3},
    "constraints": {
        "maxCostUsd": None,
        "maxLatencyMs": None,
        "maxCarbonG": None,
        "minQuality": None,
        "requiredCapabilities": [],
    },
    "timeouts": {"firstTokenMs": 30000, "idleMs": 30000, "totalMs": 120000},
    "exploration": 0.0,
    "durability": "strict",
    "onStreamCut": "resume",
    "upstream": "stream",
    "storePrompts": False,
    "sameModelRetries": 1,
    "callFormat": None,
    "strictParameters": False,
}


def parse(**changes: Any) -> Router:
    """The documented router with changes, as it comes over HTTP."""
    return Router.model_validate_json(json.dumps({**DOCUMENTED, **changes}))


def test_the_documented_router_is_accepted_and_given_back() -> None:
    """The body in the documentation is a fixed point of parsing and printing, but for the later `connectMs`."""
    objective = {**DOCUMENTED["objective"], "carbonWeight": 0.0}
    timeouts = {"connectMs": 5_000, **DOCUMENTED["timeouts"]}
    assert parse().to_wire() == {**DOCUMENTED, "objective": objective, "timeouts": timeouts}


def test_a_minimal_router_has_the_documented_defaults() -> None:
    """Only id and models are needed."""
    minimal = Router.model_validate_json('{"id": "r", "availableModels": ["m"]}')
    assert (minimal.timeouts.total_ms, minimal.same_model_retries, minimal.exploration) == (120_000, 1, 0.0)
    assert (minimal.durability, minimal.on_stream_cut, minimal.store_prompts) == ("strict", "resume", False)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-0.1", '"0.5"', "true", "null", "1e400", "1e7"])
def test_weights_that_are_no_weights_are_refused(weight: str, value: str) -> None:
    """NaN, infinite, negative, textual or huge weights cannot reach the arithmetic."""
    with pytest.raises(ValidationError):
        Objective.model_validate_json(f'{{"{weight}": {value}}}')


@pytest.mark.parametrize(
    "changes",
    [
        {"availableModels": []},
        {"mode": "preferredModel"},
        {"mode": "fastest"},
        {"id": "../up"},
        {"id": ""},
        {"exploration": 1.5},
        {"unknownField": 1},
        {"fallbackStrategy": {"fallbackModels": ["m"], "retryAttempts": -1}},
        {"fallbackStrategy": {"fallbackModels": ["m"], "retryAttempts": 1.5}},
        {"timeouts": {"totalMs": 0}},
        {"constraints": {"minQuality": 1.1}},
        {"constraints": {"maxCostUsd": -1}},
        {"sameModelRetries": "1"},
        {"storePrompts": "yes"},
        {"upstream": "both"},
    ],
)
def test_routers_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    """A router that could not serve, or whose fields were misread, is an error and no surprise later."""
    with pytest.raises(ValidationError):
        parse(**changes)


def test_all_zero_weights_mean_all_equal() -> None:
    """No objective is not a division by zero."""
    assert Objective().shares() == (0.25, 0.25, 0.25, 0.25)


@given(st.lists(st.floats(0, 1e3), min_size=4, max_size=4), st.floats(0.001, 1e3))
def test_scaling_all_weights_changes_nothing(weights: list[float], factor: float) -> None:
    """Only the ratio of the weights matters."""
    fields = ("cost_weight", "latency_weight", "quality_weight", "carbon_weight")
    plain = Objective(**dict(zip(fields, weights, strict=True)))
    scaled = Objective(**dict(zip(fields, (weight * factor for weight in weights), strict=True)))
    if max(weights) > 1e-200:  # below that, scaling loses digits to the range of a float
        assert scaled.shares() == pytest.approx(plain.shares(), abs=1e-12)


LIMITS = st.builds(
    Constraints,
    max_cost_usd=st.none() | st.floats(0, 10),
    max_latency_ms=st.none() | st.floats(0.1, 1e5),
    max_carbon_g=st.none() | st.floats(0, 10),
    min_quality=st.none() | st.floats(0, 1),
    required_capabilities=st.lists(st.sampled_from(["chat", "vision", "json"]), unique=True),
)


@given(LIMITS, LIMITS)
def test_a_request_can_only_narrow(mine: Constraints, theirs: Constraints) -> None:
    """The combination is at least as strict as each part, whichever comes first."""
    both = mine.narrowed(theirs)
    assert both == theirs.narrowed(mine)
    for part in (mine, theirs):
        for field in ("max_cost_usd", "max_latency_ms", "max_carbon_g"):
            limit = getattr(part, field)
            assert limit is None or getattr(both, field) <= limit
        assert part.min_quality is None or (both.min_quality or 0.0) >= part.min_quality
        assert set(part.required_capabilities) <= set(both.required_capabilities)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "king", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": "x"}], "n": 0},
        {"messages": [{"role": "user", "content": "x"}], "temperature": 2.5},
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0},
        {"messages": [{"role": "user", "content": "x"}], "modelpilot": {"exploration": 1}},
    ],
)
def test_chat_bodies_that_routing_cannot_read_are_refused(body: dict[str, Any]) -> None:
    """What routing reads is checked."""
    with pytest.raises(ValidationError):
        ChatBody.model_validate_json(json.dumps(body))


def test_unknown_chat_fields_are_kept() -> None:
    """A field that we do not know belongs to the provider."""
    body = ChatBody.model_validate_json('{"messages": [{"role": "user", "content": "x", "name": "bob"}], "top_k": 3}')
    assert body.model_extra == {"top_k": 3}
    assert body.messages[0].model_extra == {"name": "bob"}


# What differs between two versions of a router.

BODIES = st.dictionaries(st.text("abc", min_size=1), st.none() | st.integers() | st.lists(st.integers()), max_size=5)


def test_changes_are_named_by_their_field() -> None:
    """Nested fields have a dotted name; what is new or gone has no other side; equal fields are left out."""
    before = {"mode": "smartRouter", "objective": {"costWeight": 1, "qualityWeight": 0}, "gone": 1}
    after = {"mode": "smartRouter", "objective": {"costWeight": 0.4, "qualityWeight": 0}, "fresh": ["a"]}
    assert differences(before, after) == (
        FieldChange("objective.costWeight", 1, 0.4),
        FieldChange("fresh", None, ["a"]),
        FieldChange("gone", 1, None),
    )


@given(BODIES, BODIES)
def test_differences_turn_round(before: dict[str, object], after: dict[str, object]) -> None:
    """Equal bodies have none, and the way back has the same fields with their sides exchanged."""
    assert differences(before, before) == ()
    there = {(one.field, repr(one.before), repr(one.after)) for one in differences(before, after)}
    back = {(one.field, repr(one.after), repr(one.before)) for one in differences(after, before)}
    assert there == back


def test_lists_say_what_came_and_went() -> None:
    """Models that are new and that are gone; another order is neither."""
    assert added_and_removed(["a", "b"], ["b", "c"]) == (("c",), ("a",))
    assert added_and_removed(["a", "b"], ["b", "a"]) == ((), ())
