"""What the What-if page proposes: as the URL says it, as its controls show it, and as the replay and a router want it.

In the URL: `w=40,20,30,10` (cost, latency, quality, carbon), `models=a,b`, `explore=5` (%), and `limits=own` with
`maxCost` (USD), `maxLatency` (ms), `minQuality`. What is left out is as the router has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.frame.page_frame import Asked
from dashboard.frame.urls import moment_in_url
from modelpilot.routing.router import Objective

PARTS = ("cost", "latency", "quality", "carbon")
LIMITS = ("maxCost", "maxLatency", "minQuality")
NAMES = ("w", "models", "explore", "limits", *LIMITS)
_FIELDS = dict(zip(LIMITS, ("maxCostUsd", "maxLatencyMs", "minQuality"), strict=True))
_LARGEST = dict(zip(LIMITS, (1e6, 3.6e6, 1.0), strict=True))
_HIGHEST_WEIGHT, _MOST_MODELS = 100, 500


@dataclass(frozen=True, slots=True)
class Shown:
    """What the controls show: weights from 0 to 100, names, exploration in per cent, and limits (None: none)."""

    weights: tuple[int, ...]
    models: tuple[str, ...]
    explore_percent: float
    limits: tuple[float | None, ...]


def shown(values: Mapping[str, str], body: Mapping[str, Any]) -> Shown:
    """What the URL says over what the router (its JSON) has. What makes no sense in the URL is left out."""
    weights, models = _weights(values.get("w")), _models(values.get("models"))
    explore = _number(values.get("explore"), 100.0)
    own = values.get("limits") == "own"
    constraints = body.get("constraints") or {}
    return Shown(
        weights=weights or weights_of(body),
        models=models or models_of(body),
        explore_percent=round(float(body.get("exploration") or 0.0) * 100.0, 3) if explore is None else explore,
        limits=tuple(
            _number(values.get(name), _LARGEST[name]) if own else constraints.get(_FIELDS[name]) for name in LIMITS
        ),
    )


def weights_of(body: Mapping[str, Any]) -> tuple[int, ...]:
    """The shares of a router's objective in per cent."""
    return tuple(round(share * 100.0) for share in Objective.model_validate(body.get("objective") or {}).shares())


def models_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that a router may choose."""
    return tuple(body.get("availableModels") or ())


def changes(before: Shown, after: Shown) -> dict[str, str | None]:
    """What to write into the URL since the controls went from one state to another; nothing where they agree."""
    found: dict[str, str | None] = {}
    if after.weights != before.weights:
        found["w"] = ",".join(map(str, after.weights))
    if set(after.models) != set(before.models):
        found["models"] = ",".join(after.models) or None
    if after.explore_percent != before.explore_percent:
        found["explore"] = f"{after.explore_percent:g}"
    if after.limits != before.limits:
        found["limits"] = "own"
        found |= {name: _text(limit) for name, limit in zip(LIMITS, after.limits, strict=True)}
    return found


def proposal(values: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a router that the URL changes, in the router's own JSON; empty where it changes none."""
    wanted = shown(values, body)
    found: dict[str, Any] = {}
    if _weights(values.get("w")):
        named = zip(PARTS, wanted.weights, strict=True)
        found["objective"] = {f"{part}Weight": weight / 100.0 for part, weight in named}
    if _models(values.get("models")):
        found["availableModels"] = list(wanted.models)
    if _number(values.get("explore"), 100.0) is not None:
        found["exploration"] = round(wanted.explore_percent / 100.0, 6)
    if values.get("limits") == "own":
        limits = {_FIELDS[name]: limit for name, limit in zip(LIMITS, wanted.limits, strict=True)}
        found["constraints"] = {**(body.get("constraints") or {}), **limits}
    return found


def replay_body(asked: Asked, body: Mapping[str, Any]) -> dict[str, Any]:
    """What `POST /router/{id}/replay` is asked for: the proposal over the page's range of time."""
    span = {"from": moment_in_url(asked.window.start_s), "to": moment_in_url(asked.window.end_s + 1.0)}
    return {**proposal(asked.values, body), **span}


def proposed_router(values: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """The whole router with the proposal in it: a body for `PUT /api/routers/{id}`."""
    return {**body, **proposal(values, body)}


def _weights(text: str | None) -> tuple[int, ...] | None:
    parts = (text or "").split(",")
    if len(parts) != len(PARTS) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(min(int(part[:4]), _HIGHEST_WEIGHT) for part in parts)


def _models(text: str | None) -> tuple[str, ...] | None:
    named = dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip())
    return tuple(named)[:_MOST_MODELS] or None


def _number(text: str | None, largest: float) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0.0 <= value <= largest else None


def _text(limit: float | None) -> str | None:
    return None if limit is None else f"{limit:.12g}"
