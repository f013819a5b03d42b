"""The proposed policy: with which probability it would have chosen each model for each logged request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from modelpilot.arrays import Floats, Indices
from modelpilot.learning.replay.table import CARBON, COST, LATENCY, QUALITY, DecisionTable, Flags
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.routing.exploration import winning_shares
from modelpilot.routing.router import Constraints, Objective
from modelpilot.routing.scoring import lower_is_better_rows

_TIE_DIGITS = 12  # as decisions round totals before they break ties


@dataclass(frozen=True, slots=True)
class Proposal:
    """Other settings. None: as each request was decided. `specs` tells the capabilities of the models."""

    objective: Objective | None = None
    models: tuple[str, ...] | None = None
    constraints: Constraints | None = None
    exploration: float = 0.0
    specs: Mapping[str, ModelSpec] = field(default_factory=dict)


def probabilities(table: DecisionTable, proposal: Proposal) -> Floats:
    """[n, m]; a row of zeros where no model could serve the request under the proposal."""
    if not table.models:
        return np.zeros((len(table), 0))
    eligible, weights = eligible_models(table, proposal), _weights(table, proposal)
    totals = _totals(table, eligible, weights)
    served = np.flatnonzero(eligible.any(axis=1))
    chances = np.zeros(eligible.shape)
    best = _best(table, totals)
    chances[served, best[served]] = 1.0 - proposal.exploration
    if proposal.exploration > 0.0:
        for row in served:
            order = _ranked(table, totals, int(row))
            mean, sd, evidence = table.mean[row, order], table.sd[row, order], table.evidence[row, order]
            mean[:, QUALITY] -= table.doubt[row, order]
            shares = winning_shares(mean, sd, weights[row], evidence)
            chances[row, order] += proposal.exploration * shares
    return chances


def eligible_models(table: DecisionTable, proposal: Proposal) -> Flags:
    """[n, m] whether a model could serve a request under the proposal."""
    eligible = table.able.copy()
    if proposal.models is not None:
        eligible &= np.isin(table.models, proposal.models)
    if proposal.constraints is None:
        return eligible & ~table.constrained
    for own, rows in _by_constraints(table):
        limits = proposal.constraints if own is None else proposal.constraints.narrowed(own)
        eligible[rows] &= _meets(table.mean[rows], limits)
        eligible[rows] &= _capable(table.models, proposal.specs, limits)
    return eligible


def _by_constraints(table: DecisionTable) -> list[tuple[Constraints | None, Indices]]:
    """The rows of each set of constraints that requests brought with them; nearly always None for all."""
    groups: dict[str, tuple[Constraints | None, list[int]]] = {}
    for row, own in enumerate(table.own_constraints):
        groups.setdefault("" if own is None else own.model_dump_json(), (own, []))[1].append(row)
    return [(own, np.array(rows, np.int64)) for own, rows in groups.values()]


def _meets(mean: Floats, limits: Constraints) -> Flags:
    met = np.ones(mean.shape[:2], np.bool_)
    pairs = ((COST, limits.max_cost_usd), (LATENCY, limits.max_latency_ms), (CARBON, limits.max_carbon_g))
    for part, limit in pairs:
        if limit is not None:
            met &= mean[:, :, part] <= limit  # never true of an unknown value
    if limits.min_quality is not None:
        met &= mean[:, :, QUALITY] >= limits.min_quality
    return met


def _capable(models: tuple[str, ...], specs: Mapping[str, ModelSpec], limits: Constraints) -> Flags:
    wanted = set(limits.required_capabilities)
    return np.array([not wanted or (m in specs and wanted <= set(specs[m].capabilities)) for m in models], np.bool_)


def _weights(table: DecisionTable, proposal: Proposal) -> Floats:
    if proposal.objective is None:
        return table.weights
    shares = np.array(proposal.objective.shares())
    return np.where(table.own_objective[:, None], table.weights, shares)


def _totals(table: DecisionTable, eligible: Flags, weights: Floats) -> Floats:
    """[n, m] total scores; -inf where a model is not eligible."""
    totals = np.zeros(eligible.shape)
    for part in (COST, LATENCY, CARBON):
        values = np.where(np.isnan(table.mean[:, :, part]), np.inf, table.mean[:, :, part])
        totals += weights[:, part, None] * lower_is_better_rows(np.where(eligible, values, np.nan))
    totals += weights[:, QUALITY, None] * (table.mean[:, :, QUALITY] - table.doubt).clip(0.0, 1.0)
    return np.where(eligible, np.round(totals, _TIE_DIGITS), -np.inf)


def _best(table: DecisionTable, totals: Floats) -> Indices:
    """[n] the highest total; ties break by the cheaper model, then by name (the order of the columns)."""
    tied = totals == totals.max(axis=1, keepdims=True)
    cost = np.where(np.isnan(table.mean[:, :, COST]), np.finfo(np.float64).max, table.mean[:, :, COST])
    cheapest: Indices = np.where(tied, cost, np.inf).argmin(axis=1)
    return cheapest


def _ranked(table: DecisionTable, totals: Floats, row: int) -> Indices:
    """The eligible models of one request from best to worst, as a decision ranks them."""
    order: Indices = np.lexsort((np.arange(len(table.models)), table.mean[row, :, COST], -totals[row]))
    ranked: Indices = order[np.isfinite(totals[row, order])]
    return ranked
