"""Decisions for rows that a benchmark makes: by the product's own arithmetic, over pasts that are drawn by lot."""

import random
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import profile_request
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import Neighbours, RouterSnapshot, coded
from modelpilot.routing.router import Objective, Router
from modelpilot.routing.selection import decide

_NEIGHBOURS = 50
_NOW = 1_790_000_000.0


def spec(model: str) -> ModelSpec:
    """A model `sim/…` of the catalogue; dearer ones are better and slower."""
    rank = int(model.rpartition("-")[2])
    return ModelSpec(
        id=model,
        provider="simulator",
        provider_model="small",
        capabilities=["chat", "json", "streaming"],
        avg_latency_ms=400.0 + 100.0 * rank,
        cost_per_input_token=1e-7 * 1.5**rank,
        cost_per_output_token=4e-7 * 1.5**rank,
        quality_score=0.5 + 0.05 * rank,
        carbon_g_per_1k_tokens=0.1 * (1 + rank),
    )


def router(router_id: str, models: Sequence[str], exploration: float = 0.1) -> Router:
    """A router over all of them that explores."""
    weights = Objective(cost_weight=0.1, latency_weight=0.1, quality_weight=0.7, carbon_weight=0.1)
    return Router(
        id=router_id, name=router_id, available_models=list(models), objective=weights, exploration=exploration
    )


def decisions(models: Sequence[str], each: int) -> Mapping[str, list[dict[str, Any]]]:
    """`each` decisions by the model that was chosen, as the ledger stores them; the same every time."""
    rules = router("bench", models)
    snapshot = RouterSnapshot("tenant-0", rules, 1, {model: spec(model) for model in models}, {})
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Why is the sky blue? " * 10}]}
    profile = profile_request(body, ChatBody.model_validate(body))
    found: dict[str, list[dict[str, Any]]] = {model: [] for model in models}
    for seed in count():
        draw = random.Random(seed)
        wanted = min(models, key=lambda model: len(found[model]))
        made = decide(snapshot, profile, _past(models, wanted, draw), draw, now=_NOW)
        if len(found[made.selected]) < each:
            found[made.selected].append(made.to_wire())
        if all(len(known) == each for known in found.values()):
            return found
    raise AssertionError  # counting has no end


def _past(models: Sequence[str], favourite: str, draw: random.Random) -> Neighbours:
    """Similar prompts, at which one of the models was better than all others."""
    names = [draw.choice(models) for _ in range(_NEIGHBOURS)]
    answered, model = coded(names)

    def column(low: float, high: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.array([draw.uniform(low, high) for _ in names], np.float32)

    return Neighbours(
        similarity=np.sort(column(0.6, 0.95))[::-1],
        models=answered,
        model=model,
        request_ids=tuple(f"req_{draw.getrandbits(64):016x}" for _ in names),
        quality=np.array([1.0 if name == favourite else draw.uniform(0.0, 0.4) for name in names], np.float32),
        cost_usd=column(0.0001, 0.001),
        latency_ms=column(300.0, 1_500.0),
        output_tokens=column(20.0, 400.0),
        count=np.ones(len(names), np.float32),
        timestamp=np.full(len(names), _NOW - 86_400.0),
    )
