"""Routing as production has it: requests in order, only the chosen model's outcome seen, few graded, late, with noise.

Compared with what nobody can know beforehand: the best single model, the best model per task and the best per request,
all in hindsight with every outcome, and with a router that follows its catalogue for ever. Utility is the product's own
objective with the true outcomes in the place of predictions.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from bench.routing.offline import embed_prompts
from bench.routing.online_learner import (
    Known,
    Prompts,
    Recording,
    Stream,
    arrival_order,
    catalogue,
    known_before,
    load_recording,
    profiles_of,
    utilities,
)
from infra.catalogue.basis import shipped_basis
from modelpilot.arrays import Floats, Indices
from modelpilot.learning.estimation.basis import Basis, make_basis
from modelpilot.learning.estimation.kernel import LANDMARKS
from modelpilot.routing.router import Objective

_SHUFFLE = 99
COMPARED = ("router", "prior", "best_single", "best_per_task", "oracle")
# Student's t for 95 %, by degrees of freedom; beyond the table the normal one is close enough.
_T95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131)


@dataclass(frozen=True, slots=True)
class OnlineOptions:
    """What is run: every weighting (cost, quality) with every share of graded outcomes in every order."""

    weightings: tuple[tuple[float, float], ...] = ((0.2, 0.8), (0.5, 0.5), (0.8, 0.2))
    graded_shares: tuple[float, ...] = (0.1, 0.5, 1.0)
    orders: int = 10
    exploration: float = 0.0  # as routers have it by default
    delay_requests: float = 25.0  # mean of the geometric wait for a grade
    noise: float = 0.05  # share of grades that say the opposite
    blur: float = 0.05  # standard deviation of the error of the catalogue's mean qualities
    outcomes_known: bool = False  # all outcomes of the history, before the stream begins
    shuffled: bool = False  # null test: every prompt has the vector of another one
    processes: int = 2

    @property
    def runs(self) -> int:
        """How many streams are routed."""
        return len(self.weightings) * len(self.graded_shares) * self.orders


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    weighting: tuple[float, float]
    graded_share: float
    order: int


@dataclass(frozen=True, slots=True)
class CaseResult:
    """Mean utility of the stream's second half per way of choosing, and what exploring cost over the whole stream.

    `exploration_cost` is the mean utility lost per explored request against what would have been chosen otherwise.
    """

    case: Case
    utility: dict[str, float]
    cost_usd: float
    quality: float
    explored: int
    exploration_cost: float


def bench_online(known: Path, stream: Path, options: OnlineOptions, advance: Callable[[], None]) -> list[CaseResult]:
    """Run every case; `advance` hears of each.

    `known` gives the catalogue its prices and blurred means, `stream` is routed.

    Raises BadRecording, OSError.
    """
    prior, recording = load_recording(known), load_recording(stream)
    world = World(prior, _prompts(prior) if options.outcomes_known else None, recording, _prompts(recording), options)
    product = itertools.product(options.weightings, options.graded_shares, range(options.orders))
    cases = [Case(*parts) for parts in product]
    results = []
    context = get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, _set_up, (world,)) as pool:
        for result in pool.map(_run_case, cases):
            results.append(result)
            advance()
    return results


@dataclass(frozen=True)
class World:
    """What all cases have in common: what the catalogue is made of (with its prompts where its outcomes are known from
    the beginning), and what is routed."""

    prior: Recording
    prior_prompts: Prompts | None
    recording: Recording
    prompts: Prompts
    options: OnlineOptions
    shipped: Basis = field(default_factory=shipped_basis)

    @cached_property
    def basis(self) -> Basis:
        """The features to learn by: the product's own, or those of a history that is known."""
        known = self.prior_prompts
        return self.shipped if known is None else make_basis(known.vectors, LANDMARKS)

    @cached_property
    def known(self) -> Callable[[tuple[float, float]], Known | None]:
        """What is known before, by the weighting. A fit is admitted, or not, with the catalogue of one order."""

        @cache
        def found(weighting: tuple[float, float]) -> Known | None:
            if self.prior_prompts is None:
                return None
            specs = catalogue(self.prior, self.options.blur, np.random.default_rng(0))
            objective = Objective(cost_weight=weighting[0], quality_weight=weighting[1])
            return known_before(self.prior, self.prior_prompts, self.basis, list(specs.values()), objective)

        return found

    @cached_property
    def seen(self) -> Prompts:
        """The prompts as the router sees them."""
        vectors = self.prompts.vectors
        others = np.random.default_rng(_SHUFFLE).permutation(len(vectors))
        return replace(self.prompts, vectors=vectors[others]) if self.options.shuffled else self.prompts


def run_case(case: Case, world: World) -> CaseResult:
    """One stream. The order, the catalogue's error and the grades depend on the number of the order alone."""
    recording, options, draw = world.recording, world.options, np.random.default_rng(case.order)
    specs = catalogue(world.prior, options.blur, draw)
    order = arrival_order(recording.tasks, draw)
    cost_weight, quality_weight = case.weighting
    learner = Stream(
        recording,
        world.seen,
        specs,
        Objective(cost_weight=cost_weight, quality_weight=quality_weight),
        options.exploration,
        random.Random(case.order),
        world.basis,
        known=world.known(case.weighting),
    )
    true = utilities(recording, cost_weight, quality_weight)
    chosen, greedy, explored = _serve(learner, order, case.graded_share, draw, options)
    follower = replace_learning(learner)
    index = {model: i for i, model in enumerate(recording.models)}
    prior_choice = np.array([index[follower.decide(int(query)).selected] for query in order])
    half = slice(len(order) // 2, None)
    rows = order[half]
    lost = true[order, greedy] - true[order, chosen]
    return CaseResult(
        case=case,
        utility={
            "router": float(true[rows, chosen[half]].mean()),
            "prior": float(true[rows, prior_choice[half]].mean()),
            "best_single": float(true[rows].mean(0).max()),
            "best_per_task": _best_per_task(true[rows], [recording.tasks[i] for i in rows]),
            "oracle": float(true[rows].max(1).mean()),
        },
        cost_usd=float(recording.cost_usd[rows, chosen[half]].mean()),
        quality=float(recording.quality[rows, chosen[half]].mean()),
        explored=int(explored.sum()),
        exploration_cost=float(lost[explored].mean()) if explored.any() else 0.0,
    )


def replace_learning(learner: Stream) -> Stream:
    """A router with the same catalogue that neither learns nor explores."""
    return replace(learner, learns=False, exploration=0.0, known=None, _served={})


def summarize(results: Iterable[CaseResult]) -> list[dict[str, Any]]:
    """Per weighting and share of grades: means over the orders and 95 % intervals of the differences to the router."""
    groups: dict[tuple[tuple[float, float], float], list[CaseResult]] = {}
    for result in results:
        groups.setdefault((result.case.weighting, result.case.graded_share), []).append(result)
    return [_summary(weighting, share, group) for (weighting, share), group in groups.items()]


def interval(differences: Floats) -> dict[str, float | None]:
    """Mean of paired differences with the 95 % interval over the orders; no interval for a single one."""
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        return {"mean": round(mean, 4), "low": None, "high": None}
    t = _T95[count - 2] if count - 2 < len(_T95) else 1.96
    half = t * float(differences.std(ddof=1)) / count**0.5
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def describe_online(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line per case: the router's mean utility in the second half, and its gain over the others (points)."""
    lines = []
    for case in summaries:
        gains = "; ".join(f"{name.replace('_', ' ')} {_points(gain)}" for name, gain in case["gainOver"].items())
        lines.append(
            f"cost {case['costWeight']:g} quality {case['qualityWeight']:g}, {case['gradedShare']:.0%} graded: "
            f"utility {case['utility']['router']:.4f}; points over {gains}; "
            f"{case['exploredRequests']:g} explored, at {100 * case['explorationCost']:.1f} points each"
        )
    return lines


_world: list[World] = []  # of a worker process, which gets it once and not with every case


def _set_up(world: World) -> None:
    _world[:] = [world]


def _run_case(case: Case) -> CaseResult:
    return run_case(case, _world[0])


def _prompts(recording: Recording) -> Prompts:
    return Prompts(asyncio.run(embed_prompts(recording.prompts)).vectors, profiles_of(recording))


def _serve(
    learner: Stream, order: Indices, graded_share: float, draw: np.random.Generator, options: OnlineOptions
) -> tuple[Indices, Indices, np.ndarray]:
    """The models chosen, those that would have been without exploring, and where the two came from exploring."""
    index = {model: i for i, model in enumerate(learner.recording.models)}
    chosen, greedy = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    explored = np.zeros(len(order), bool)
    waiting: list[tuple[int, int, float]] = []
    for moment, query in enumerate(order.tolist()):
        while waiting and waiting[0][0] <= moment:
            _, graded, grade = heapq.heappop(waiting)
            learner.graded(graded, grade)
        decision = learner.decide(query)
        best = max((c for c in decision.candidates if c.total is not None), key=lambda c: c.total or 0.0)
        chosen[moment], greedy[moment] = index[decision.selected], index[best.model]
        explored[moment] = decision.explored
        learner.served(query, int(chosen[moment]))
        # Drawn for every request, so that the same order meets the same luck under every share of grades.
        luck, delay, wrong = draw.random(), draw.geometric(1.0 / options.delay_requests), draw.random()
        if luck < graded_share:
            quality = float(learner.recording.quality[query, chosen[moment]])
            heapq.heappush(waiting, (moment + int(delay), query, 1.0 - quality if wrong < options.noise else quality))
    return chosen, greedy, explored


def _best_per_task(true: Floats, tasks: list[str]) -> float:
    names = np.array(tasks)
    total = sum(true[names == task].sum(0).max() for task in set(tasks))
    return float(total / len(tasks))


def _summary(weighting: tuple[float, float], share: float, group: list[CaseResult]) -> dict[str, Any]:
    values: Mapping[str, Floats] = {name: np.array([r.utility[name] for r in group]) for name in COMPARED}
    return {
        "costWeight": weighting[0],
        "qualityWeight": weighting[1],
        "gradedShare": share,
        "orders": len(group),
        "utility": {name: round(float(value.mean()), 4) for name, value in values.items()},
        "gainOver": {name: interval(values["router"] - values[name]) for name in COMPARED[1:]},
        "quality": round(float(np.mean([r.quality for r in group])), 4),
        "costUsd": float(f"{np.mean([r.cost_usd for r in group]):.4g}"),
        "exploredRequests": round(float(np.mean([r.explored for r in group])), 1),
        "explorationCost": round(float(np.mean([r.exploration_cost for r in group])), 4),
    }


def _points(gain: Mapping[str, float | None]) -> str:
    low, high = gain["low"], gain["high"]
    between = "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"
    return f"{100 * (gain['mean'] or 0.0):+.2f}{between}"
