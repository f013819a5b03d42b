"""Why a model cannot serve a request."""

from typing import Any

import pytest

from modelpilot.learning.estimation import Prediction
from modelpilot.routing.eligibility import breaks_constraint, cannot_serve
from modelpilot.routing.router import Constraints
from tests.support.routing_samples import profile, spec

EXPECTED = Prediction(cost_usd=0.01, latency_ms=500.0, quality=0.7, carbon_g=0.2, output_tokens=100.0, evidence=3)
UNKNOWN = Prediction(cost_usd=None, latency_ms=500.0, quality=0.7, carbon_g=None, output_tokens=100.0, evidence=0)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
LONG = [{"role": "user", "content": "word " * 45}]
IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]


@pytest.mark.parametrize(
    ("fields", "changes", "reason"),
    [
        ({}, {}, None),
        ({"tools": [TOOL]}, {}, "lacks the capability functions"),
        ({"tools": [TOOL]}, {"capabilities": ["chat", "functions"]}, None),
        ({"response_format": {"type": "json_object"}}, {}, "lacks the capability json"),
        ({"tools": [TOOL], "response_format": {"type": "json_schema"}}, {}, "lacks the capability functions, json"),
        ({}, {"capabilities": ["embeddings"]}, "lacks the capability chat"),
        ({"max_tokens": 100}, {"limits": {"max_tokens": 99}}, None),
        ({"max_tokens": 100}, {"limits": {"max_tokens": 10, "context_window": 50}}, None),
        ({"max_tokens": 100}, {"limits": {"context_window": 50}}, None),
        (
            {"max_tokens": 9, "messages": LONG},
            {"limits": {"context_window": 50}},
            "tokens of context, the window is 50",
        ),
        ({}, {"limits": {"context_window": 50}}, None),
    ],
)
def test_hard_limits(fields: dict[str, Any], changes: dict[str, Any], reason: str | None) -> None:
    """Capabilities and context window exclude with a sentence that says what is missing; a limit of the answer above
    the model's own does not, since it is clamped."""
    said = cannot_serve(spec(**changes), profile(**fields))
    assert (said is None) if reason is None else (reason in (said or ""))


def test_a_long_prompt_needs_a_large_window() -> None:
    """The estimate counts the prompt's characters."""
    small, large = spec(limits={"context_window": 1_000}), spec(limits={"context_window": 100_000})
    long = profile("word " * 4_000)
    assert "window is 1000" in (cannot_serve(small, long) or "")
    assert cannot_serve(large, long) is None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({}, None),
        ({"max_cost_usd": 0.01}, None),
        ({"max_cost_usd": 0.009}, "expected cost 0.01 USD is over the limit 0.009 USD"),
        ({"max_cost_usd": 0.0}, "over the limit 0 USD"),
        ({"max_latency_ms": 499.0}, "expected latency 500 ms is over the limit 499 ms"),
        ({"max_carbon_g": 0.1}, "expected carbon 0.2 gCO2e is over the limit 0.1 gCO2e"),
        ({"min_quality": 0.7}, None),
        ({"min_quality": 0.71}, "expected quality 0.700 is under the minimum 0.71"),
        ({"required_capabilities": ["chat"]}, None),
        ({"required_capabilities": ["vision", "chat", "audio"]}, "lacks the required capability audio, vision"),
    ],
)
def test_constraints(limits: dict[str, Any], reason: str | None) -> None:
    """Each constraint compares with the expectation for this request and says both numbers."""
    said = breaks_constraint(spec(), EXPECTED, Constraints(**limits))
    assert (said is None) if reason is None else (reason in (said or ""))


@pytest.mark.parametrize("limit", [{"max_cost_usd": 1e9}, {"max_carbon_g": 1e9}])
def test_unknown_fails_any_limit(limit: dict[str, Any]) -> None:
    """An unknown price fails even a generous maxCostUsd: unknown is not zero."""
    assert "is unknown and the limit is 1e+09" in (breaks_constraint(spec(), UNKNOWN, Constraints(**limit)) or "")


def test_unknown_is_fine_without_a_limit() -> None:
    """Nothing to compare with, nothing to break."""
    assert breaks_constraint(spec(), UNKNOWN, Constraints()) is None


def test_images_need_vision() -> None:
    """An image part anywhere in the messages asks for the capability."""
    messages = [{"role": "user", "content": IMAGE}]
    assert cannot_serve(spec(), profile(messages=messages)) == "lacks the capability vision"
