"""The whole replay as one JSON object: predictions, off-policy estimates, shares, and where evidence is thin."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from modelpilot.arrays import Floats
from modelpilot.learning.replay.estimates import (
    BOUNDS,
    Interval,
    OffPolicy,
    common_error_variance,
    effective_size,
    interval_of,
    off_policy,
    own_error_variance,
)
from modelpilot.learning.replay.newcomers import MINIMUM_OUTCOMES, ModelHistory, add_newcomers
from modelpilot.learning.replay.policy import Proposal, probabilities
from modelpilot.learning.replay.table import (
    CARBON,
    COST,
    LATENCY,
    QUALITY,
    DecisionTable,
    Flags,
    LoggedRequest,
    decision_table,
)
from modelpilot.requests.records import HistoryScope
from modelpilot.routing.router import Constraints

# Fewer neighbours than this say little about a prompt; fewer effective outcomes give no interval worth its name.
MINIMUM_NEIGHBOURS = 10
MINIMUM_EFFECTIVE = 50.0
MAXIMUM_UNSUPPORTED = 0.05
_NAMES = {"costUsd": COST, "latencyMs": LATENCY, "quality": QUALITY, "carbonG": CARBON}
# Their standard deviations are those of one request's length; the others' are those of the expectation.
_OWN_ERROR = (COST, CARBON)


def replay(
    requests: Sequence[LoggedRequest],
    proposal: Proposal,
    histories: Mapping[str, ModelHistory] | None = None,
    constraints: Constraints | None = None,
) -> dict[str, Any]:
    """Score logged requests again. `histories` is what the router has seen of models that may not have been candidates,
    `constraints` the router's own, which apply to those."""
    table = decision_table(requests, proposal.models or ())
    wanted = table.models if proposal.models is None else proposal.models
    specs = {name: proposal.specs[name] for name in wanted if name in proposal.specs}
    if proposal.models is not None:
        add_newcomers(table, specs, histories or {}, constraints or Constraints())
    chances = probabilities(table, proposal)
    served: Flags = np.asarray(chances.any(axis=1))
    return {
        "requests": len(table),
        "leftOut": len(requests) - len(table),
        "unserved": int((~served).sum()),
        "changedShare": _changed(table, chances, served),
        "predicted": {name: _predicted(table, chances, served, part) for name, part in _NAMES.items()},
        "offPolicy": _off_policy(table, chances, served),
        "models": _shares(table, chances, served),
        "thinEvidence": _thin(table, chances, served, wanted),
    }


def _changed(table: DecisionTable, chances: Floats, served: Flags) -> float:
    """The share of requests that would have gone to another model."""
    return float((1.0 - table.of_chosen(chances))[served].mean()) if served.any() else 0.0


def _expected(chances: Floats, mean: Floats) -> Floats:
    """[n] the mean prediction under the policy; NaN where that of a possible model is unknown."""
    expected: Floats = np.where(chances > 0.0, chances * mean, 0.0).sum(axis=1)
    return expected


def _predicted(table: DecisionTable, chances: Floats, served: Flags, part: int) -> dict[str, Any]:
    mean, sd = table.mean[:, :, part], table.sd[:, :, part]
    logged, proposed = table.of_chosen(mean), _expected(chances, mean)
    rows = served & np.isfinite(logged) & np.isfinite(proposed)
    before = np.zeros(chances.shape)
    before[np.arange(len(table)), table.chosen] = 1.0
    variance = own_error_variance if part in _OWN_ERROR else common_error_variance

    def interval(values: Floats, share: Floats, low: float, high: float) -> Interval | None:
        found = interval_of(values[rows], variance(share[rows], sd[rows]))
        return found and found.within(low, high)

    low, high = BOUNDS[part]
    as_it_was = interval(logged, before, low, high)
    level = 0.0 if as_it_was is None else as_it_was.mean
    return {
        "logged": _wire(as_it_was),
        "proposed": _wire(interval(proposed, chances, low, high)),
        "difference": _wire(interval(proposed - logged, chances - before, low - level, high - level)),
    }


def _ratio(table: DecisionTable, chances: Floats) -> Floats:
    # A logged probability of 0 cannot be; rounding must not make it one.
    return table.of_chosen(chances) / np.maximum(table.of_chosen(table.probability), 1e-9)


def _off_policy(table: DecisionTable, chances: Floats, served: Flags) -> dict[str, Any]:
    ratio = _ratio(table, chances)[served]
    estimates: dict[str, Any] = {}
    for name, part in list(_NAMES.items())[:3]:  # nobody measures the carbon of a call
        mean = table.mean[:, :, part]
        found = off_policy(
            table.observed[served, part], ratio, _expected(chances, mean)[served], table.of_chosen(mean)[served]
        )
        estimates[name] = None if found is None else _off_policy_wire(found.within(*BOUNDS[part]))
    return {"unsupportedShare": _unsupported(table, chances, served), **estimates}


def _off_policy_wire(found: OffPolicy) -> dict[str, Any]:
    return {
        "logged": found.logged.to_wire(),
        "inversePropensity": _wire(found.inverse_propensity),
        "doublyRobust": _wire(found.doubly_robust),
        "difference": _wire(found.difference),
        "effectiveSampleSize": found.weights_ess,
    }


def _unsupported(table: DecisionTable, chances: Floats, served: Flags) -> float:
    """How much of what the proposal would do the logged policy could never have done: no outcome tells of that."""
    never = np.where(table.probability > 0.0, 0.0, chances).sum(axis=1)
    return float(never[served].mean()) if served.any() else 0.0


def _shares(table: DecisionTable, chances: Floats, served: Flags) -> list[dict[str, Any]]:
    count = max(len(table), 1)
    before = np.bincount(table.chosen, minlength=len(table.models)) / count
    after = chances.sum(axis=0) / max(int(served.sum()), 1)
    rows = [
        {
            "model": name,
            "loggedShare": float(before[place]),
            "proposedShare": float(after[place]),
            "evidence": _evidence(table, chances, place),
        }
        for place, name in enumerate(table.models)
    ]
    return sorted(rows, key=lambda row: (-float(str(row["proposedShare"])), str(row["model"])))


def _evidence(table: DecisionTable, chances: Floats, place: int) -> float | None:
    """The median number of neighbours where the proposal would take the model; None where it never would."""
    taken = chances[:, place] > 0.0
    return float(np.median(table.evidence[taken, place])) if taken.any() else None


def _thin(table: DecisionTable, chances: Floats, served: Flags, wanted: Sequence[str]) -> dict[str, Any]:
    """Where the figures above stand on little."""
    thin = np.where(table.evidence < MINIMUM_NEIGHBOURS, chances, 0.0)
    ess = effective_size(_ratio(table, chances)[served])
    unsupported = _unsupported(table, chances, served)
    able = set(np.array(table.models)[table.able.any(axis=0)].tolist())
    unknown = [name for name in wanted if name not in able]
    models = [
        {"model": name, "share": float(thin[served, place].mean())}
        for place, name in enumerate(table.models)
        if served.any() and thin[served, place].any()
    ]
    return {
        "minimumNeighbours": MINIMUM_NEIGHBOURS,
        "requestShare": float(thin.sum(axis=1)[served].mean()) if served.any() else 0.0,
        "models": models,
        "notConsidered": [
            {"model": name, "because": f"fewer than {MINIMUM_OUTCOMES} outcomes here, or it could serve no request"}
            for name in unknown
        ],
        "effectiveSampleSize": ess,
        "offPolicyReliable": ess >= MINIMUM_EFFECTIVE and unsupported <= MAXIMUM_UNSUPPORTED,
    }


def _wire(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.to_wire()


class DecisionLog(Protocol):
    """Logged decisions of one router. Raises DependencyUnavailable."""

    async def decisions(
        self, scope: HistoryScope, start_s: float | None, end_s: float | None, limit: int
    ) -> Sequence[LoggedRequest]:
        """The newest `limit` requests that ended, made from `start_s` on and before `end_s` (Unix seconds)."""
        ...

    async def histories(self, scope: HistoryScope, models: Sequence[str]) -> dict[str, ModelHistory]:
        """What was seen of these models; those never seen are left out."""
        ...
