"""Logged decisions as arrays: n requests, m models (all that any of them knew), four components."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpilot.arrays import Floats
from modelpilot.routing.router import Constraints

Flags = NDArray[np.bool_]

PARTS = ("cost", "latency", "quality", "carbon")
COST, LATENCY, QUALITY, CARBON = range(4)
# Bounds the memory of a replay: beyond it, the oldest requests are left out.
MAXIMUM_CELLS = 1_000_000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A decision as the ledger has it, and what came of it. `answered_by` is the decided model, or None where another
    one (a fallback) or none at all answered: then the outcome says nothing about the decision."""

    decision: dict[str, Any]
    answered_by: str | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    quality: float | None = None


@dataclass(frozen=True, slots=True)
class DecisionTable:
    """Arrays over [n] requests and [m] models, in order of their names. NaN: unknown, or not predicted at all.

    `able`: the model was predicted and could serve the request, constraints aside; `constrained`: the constraints of
    the time excluded it. `probability` is that of the logged policy; `chosen` the index of the logged choice.
    """

    models: tuple[str, ...]
    mean: Floats  # [n, m, 4]
    doubt: Floats  # [n, m] how much lower than its mean a quality was compared as
    sd: Floats  # [n, m, 4], 0 where unknown
    evidence: Floats  # [n, m] answers
    able: Flags  # [n, m]
    constrained: Flags  # [n, m]
    probability: Floats  # [n, m]
    chosen: NDArray[np.int64]  # [n]
    weights: Floats  # [n, 4]
    observed: Floats  # [n, 4]; carbon is never observed
    own_objective: Flags  # [n] the request brought an objective of its own
    own_constraints: tuple[Constraints | None, ...]  # [n]
    needs: tuple[dict[str, Any], ...]  # [n] the decisions' `requires`, with `promptTokens`

    def __len__(self) -> int:
        return len(self.chosen)

    def of_chosen(self, values: Floats) -> Floats:
        """[n, …] the entries of [n, m, …] at the logged choices."""
        taken: Floats = values[np.arange(len(self)), self.chosen]
        return taken


def decision_table(requests: Sequence[LoggedRequest], extra_models: Iterable[str] = ()) -> DecisionTable:
    """The newest requests first, as given; those over MAXIMUM_CELLS, or without a usable choice, are left out."""
    usable = [request for request in requests if _chosen(request.decision) is not None]
    names = {c["model"] for request in usable for c in request.decision["candidates"]}
    models = tuple(sorted(names | set(extra_models)))
    usable = usable[: max(MAXIMUM_CELLS // max(len(models), 1), 1)]
    table = _empty(usable, models)
    places = {name: place for place, name in enumerate(models)}
    for row, request in enumerate(usable):
        _fill(table, row, request, places)
    return table


def _chosen(decision: dict[str, Any]) -> dict[str, Any] | None:
    """The candidate that was chosen; a model in preferredModel mode that only a fallback could replace is none."""
    selected = decision.get("selectedModel")
    found: dict[str, Any] | None = next((c for c in decision.get("candidates", ()) if c["model"] == selected), None)
    return found if found and found["quality"]["raw"] is not None and found["total"] is not None else None


def _empty(requests: Sequence[LoggedRequest], models: tuple[str, ...]) -> DecisionTable:
    n, m = len(requests), len(models)
    overrides = [request.decision.get("overrides") or {} for request in requests]
    return DecisionTable(
        models=models,
        mean=np.full((n, m, 4), np.nan),
        doubt=np.zeros((n, m)),
        sd=np.zeros((n, m, 4)),
        evidence=np.zeros((n, m)),
        able=np.zeros((n, m), np.bool_),
        constrained=np.zeros((n, m), np.bool_),
        probability=np.zeros((n, m)),
        chosen=np.zeros(n, np.int64),
        weights=np.zeros((n, 4)),
        observed=np.full((n, 4), np.nan),
        own_objective=np.array([bool(own.get("objective")) for own in overrides], np.bool_),
        own_constraints=tuple(_constraints(own.get("constraints")) for own in overrides),
        needs=tuple(
            {**(request.decision.get("requires") or {}), "promptTokens": request.decision.get("promptTokens", 0)}
            for request in requests
        ),
    )


def _constraints(plain: dict[str, Any] | None) -> Constraints | None:
    return None if plain is None else Constraints.model_validate(plain)


def _doubt(quality: dict[str, Any], total: float | None) -> float:
    """How much lower than it is expected a quality was compared as; a model that was excluded has no score."""
    raw: float = quality["raw"]
    return raw - float(quality.get("score", raw)) if total is not None else 0.0


def _fill(table: DecisionTable, row: int, request: LoggedRequest, places: dict[str, int]) -> None:
    decision = request.decision
    predicted = [c for c in decision["candidates"] if c["quality"]["raw"] is not None]
    at = [places[c["model"]] for c in predicted]
    table.mean[row, at] = np.array([[c[part]["raw"] for part in PARTS] for c in predicted], np.float64)
    table.doubt[row, at] = [_doubt(c["quality"], c["total"]) for c in predicted]
    spread = np.array([[c[part].get("sd") for part in PARTS] for c in predicted], np.float64)
    table.sd[row, at] = np.nan_to_num(spread)
    table.evidence[row, at] = [c.get("evidence", 0) for c in predicted]
    table.constrained[row, at] = [c.get("excludedBy") == "constraint" for c in predicted]
    table.able[row, at] = [c["total"] is not None or c.get("excludedBy") == "constraint" for c in predicted]
    table.weights[row] = [predicted[0][part]["weight"] for part in PARTS]
    chosen = places[decision["selectedModel"]]
    table.chosen[row] = chosen
    table.probability[row, at] = [c.get("probability") or 0.0 for c in predicted]
    # Older decisions have the propensity of their choice only, and a blocked model that was tried all the same is sure.
    table.probability[row, chosen] = decision.get("propensity", 1.0)
    if request.answered_by == decision["selectedModel"]:
        seen = (request.cost_usd, request.latency_ms, request.quality)
        table.observed[row, :CARBON] = np.array(seen, np.float64)
