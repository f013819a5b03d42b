"""Logged decisions scored again: estimates against a simulated logging policy whose truth is known."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.replay import LoggedRequest, ModelHistory, Proposal, replay
from modelpilot.learning.replay.estimates import off_policy
from modelpilot.learning.replay.policy import probabilities
from modelpilot.learning.replay.table import decision_table
from modelpilot.requests.records import Neighbours
from modelpilot.routing.router import Constraints, Objective
from modelpilot.routing.selection import decide
from tests.support.routing_samples import neighbours, profile, router, snapshot, spec

CHEAP = spec("cheap", cost_per_output_token=1e-6, quality_score=0.5, avg_latency_ms=500.0)
GOOD = spec("good", cost_per_output_token=2e-5, quality_score=0.8, avg_latency_ms=1_500.0)
SPECS = {model.id: model for model in (CHEAP, GOOD)}
TRUE_QUALITY = {"cheap": 0.45, "good": 0.75}
TRUE_LATENCY_MS = {"cheap": 700.0, "good": 1_200.0}
QUALITY_FIRST = Objective(quality_weight=1.0)
COST_FIRST = Objective(cost_weight=1.0)


def logged(count: int, seed: int, exploration: float = 0.5, graded: float = 1.0, **changes: Any) -> list[LoggedRequest]:
    """What a router that prefers the cheap model would have logged, for short and long prompts in turn; outcomes come
    from the truth above, not from what it believed."""
    rules = router("cheap", "good", objective={"cost_weight": 1.0}, exploration=exploration, **changes)
    shot, draw, nature = snapshot(rules, CHEAP, GOOD), random.Random(seed), np.random.default_rng(seed)
    made = [decide(shot, profile(text), neighbours([]), None) for text in ("Short", "Long " * 500)]
    found = []
    for number in range(count):
        chances = {c.model: c.probability for c in made[number % 2].candidates if c.total is not None}
        model = draw.choices(list(chances), list(chances.values()))[0]
        decision = replace(made[number % 2], selected=model, propensity=chances[model])
        quality = float(nature.random() < TRUE_QUALITY[model]) if nature.random() < graded else None
        latency_ms = TRUE_LATENCY_MS[model] * float(nature.uniform(0.5, 1.5))
        found.append(LoggedRequest(decision.to_wire(), model, 0.001, latency_ms, quality))
    return found


@pytest.mark.parametrize("estimate", ["inverse_propensity", "doubly_robust"])
def test_off_policy_intervals_hold_the_truth_as_often_as_they_say(estimate: str) -> None:
    """95 % intervals of a policy that was never in charge hold its true value in about 95 % of 1,000 logs, although the
    predictions are wrong, and prompts and policies differ."""
    nature, held = np.random.default_rng(7), 0
    for _ in range(1_000):
        hard = nature.random(600)  # [n] how hard each prompt is
        truth = np.stack([0.8 - 0.7 * hard, 0.95 - 0.3 * hard], axis=1)
        logging, target = 0.9 - 0.4 * hard, 0.2 + 0.5 * hard  # probability of the first model
        chosen = (nature.random(600) > logging).astype(int)
        at = np.arange(600), chosen
        outcome = (nature.random(600) < truth[at]).astype(float)
        ratio = np.stack([target, 1 - target], 1)[at] / np.stack([logging, 1 - logging], 1)[at]
        believed = np.full((600, 2), (0.6, 0.6))
        found = getattr(off_policy(outcome, ratio, believed.mean(1), believed[at]), estimate)
        worth = float(np.mean(_value(np.linspace(0, 1, 2_001))))
        held += found.low <= worth <= found.high
    assert 0.93 <= held / 1_000 <= 0.97


def _value(hard: np.ndarray) -> np.ndarray:
    target = 0.2 + 0.5 * hard
    return target * (0.8 - 0.7 * hard) + (1 - target) * (0.95 - 0.3 * hard)


def test_a_replay_estimates_what_another_objective_would_have_brought() -> None:
    """From the log of a router that prefers the cheap model, the true quality and latency of the other one."""
    found = replay(logged(4_000, 0), Proposal(QUALITY_FIRST))["offPolicy"]
    for name, truth in (("quality", TRUE_QUALITY["good"]), ("latencyMs", TRUE_LATENCY_MS["good"])):
        for estimate in ("inversePropensity", "doublyRobust"):
            interval = found[name][estimate]
            assert interval["low"] <= truth <= interval["high"]
            assert interval["high"] - interval["low"] < 0.2 * truth


def test_the_doubly_robust_difference_finds_the_gain() -> None:
    """The paired difference of a large log holds the true one, and its sign is beyond doubt."""
    found = replay(logged(4_000, 1, graded=0.5), Proposal(QUALITY_FIRST))["offPolicy"]["quality"]
    share_of_good = np.mean([request.decision["selectedModel"] == "good" for request in logged(4_000, 1)])
    gain = (TRUE_QUALITY["good"] - TRUE_QUALITY["cheap"]) * (1.0 - float(share_of_good))
    assert 0.0 < found["difference"]["low"] <= gain <= found["difference"]["high"]
    assert 0 < found["effectiveSampleSize"] < found["logged"]["requests"] < 4_000


def test_the_same_settings_change_nothing() -> None:
    """A replay of what was decided, without exploration, is what was decided."""
    found = replay(logged(50, 0, exploration=0.0), Proposal())
    assert (found["requests"], found["unserved"], found["changedShare"]) == (50, 0, 0.0)
    for part in found["predicted"].values():
        assert part["difference"]["mean"] == pytest.approx(0.0, abs=1e-12)
        assert part["difference"]["low"] == pytest.approx(0.0, abs=1e-12)
    assert found["offPolicy"]["unsupportedShare"] == 0.0
    assert found["offPolicy"]["quality"]["effectiveSampleSize"] == pytest.approx(50)


def test_other_weights_move_requests_and_say_what_that_costs() -> None:
    """All go to the better model: predicted quality and cost rise by what the predictions say."""
    found = replay(logged(100, 0, exploration=0.0), Proposal(QUALITY_FIRST))
    assert found["changedShare"] == 1.0
    assert found["predicted"]["quality"]["difference"]["mean"] == pytest.approx(0.3)
    assert found["predicted"]["costUsd"]["difference"]["low"] > 0.0
    shares = {row["model"]: (row["loggedShare"], row["proposedShare"]) for row in found["models"]}
    assert shares == {"good": (0.0, 1.0), "cheap": (1.0, 0.0)}


def test_without_exploration_outcomes_say_nothing_of_the_untried() -> None:
    """No estimate instead of a wrong one, and a word about it."""
    found = replay(logged(100, 0, exploration=0.0), Proposal(QUALITY_FIRST))
    quality = found["offPolicy"]["quality"]
    assert (quality["inversePropensity"], quality["doublyRobust"], quality["effectiveSampleSize"]) == (None, None, 0.0)
    assert found["offPolicy"]["unsupportedShare"] == 1.0
    assert found["thinEvidence"]["offPolicyReliable"] is False
    assert found["thinEvidence"]["requestShare"] == 1.0  # no neighbours at all
    assert [row["model"] for row in found["thinEvidence"]["models"]] == ["good"]


def test_fallbacks_are_no_evidence_about_the_decided_model() -> None:
    """The outcome of a request that another model answered counts for nobody."""
    requests = [replace(request, answered_by=None) for request in logged(20, 0)]
    assert replay(requests, Proposal())["offPolicy"]["quality"] is None


def test_constraints_are_judged_anew() -> None:
    """What a limit excluded comes back under a wider one, and a limit that nobody meets leaves requests unserved."""
    strict = logged(10, 0, exploration=0.0, constraints={"max_latency_ms": 1_000.0})
    assert replay(strict, Proposal(QUALITY_FIRST))["changedShare"] == 0.0
    wider = replay(strict, Proposal(QUALITY_FIRST, constraints=Constraints(max_latency_ms=2_000.0)))
    assert wider["changedShare"] == 1.0
    nobody = replay(strict, Proposal(constraints=Constraints(min_quality=0.99)))
    assert (nobody["unserved"], nobody["predicted"]["quality"]["proposed"]) == (10, None)
    needy = replay(strict, Proposal(constraints=Constraints(required_capabilities=["vision"]), specs=SPECS))
    assert needy["unserved"] == 10


def test_a_request_s_own_settings_stay() -> None:
    """Objective and constraints that came with the request are no settings of the router."""
    shot = snapshot(router("cheap", "good", objective={"cost_weight": 1.0}), CHEAP, GOOD)

    def one(**options: Any) -> list[LoggedRequest]:
        return [LoggedRequest(decide(shot, profile(modelpilot=options), neighbours([]), None).to_wire())]

    assert replay(one(objective={"costWeight": 1.0}), Proposal(QUALITY_FIRST))["changedShare"] == 0.0
    limited = one(constraints={"maxLatencyMs": 1_000.0})
    assert replay(limited, Proposal(QUALITY_FIRST, constraints=Constraints()))["changedShare"] == 0.0
    assert replay(one(), Proposal(QUALITY_FIRST))["changedShare"] == 1.0


NEW = spec("new", quality_score=0.2, cost_per_output_token=5e-6)


def test_a_model_is_considered_only_where_there_is_evidence() -> None:
    """With outcomes of its own in this router it takes part; without, it is named and left out."""
    requests = logged(20, 0, exploration=0.0)
    proposal = Proposal(QUALITY_FIRST, models=("cheap", "good", "new"), specs={**SPECS, "new": NEW})
    without = replay(requests, proposal)
    assert [row["model"] for row in without["thinEvidence"]["notConsidered"]] == ["new"]
    seen = {"new": ModelHistory(outcomes=200, graded=200, quality=0.99, latency_ms=600.0, output_tokens=80.0)}
    considered = replay(requests, proposal, seen)
    assert considered["thinEvidence"]["notConsidered"] == []
    assert considered["models"][0]["model"] == "new"
    assert considered["models"][0]["proposedShare"] == 1.0
    assert 0.9 < considered["predicted"]["quality"]["proposed"]["mean"] < 0.99
    tiny = {**SPECS, "new": spec("new", limits={"context_window": 1})}
    too_small = replay(requests, replace(proposal, specs=tiny), seen)
    assert [row["model"] for row in too_small["thinEvidence"]["notConsidered"]] == ["new"]


def test_nothing_logged_is_an_answer_too() -> None:
    """An empty range has no figures, and no error either."""
    found = replay([], Proposal(COST_FIRST))
    assert (found["requests"], found["predicted"]["quality"]["logged"], found["models"]) == (0, None, [])
    assert replay([], Proposal(models=("cheap",), specs=SPECS))["requests"] == 0


def test_decisions_of_older_releases_can_be_replayed() -> None:
    """Without standard deviations, probabilities and kinds of exclusion, what is there is used."""
    requests = logged(10, 0)
    for request in requests:
        for name in ("overrides", "requires", "predictor"):
            del request.decision[name]
        for candidate in request.decision["candidates"]:
            for name in ("excludedBy", "probability"):
                del candidate[name]
            for part in ("cost", "latency", "quality", "carbon"):
                del candidate[part]["sd"]
    assert replay(requests, Proposal(QUALITY_FIRST))["requests"] == 10


WEIGHTS = st.builds(Objective, cost_weight=st.floats(0, 1), quality_weight=st.floats(0, 1))


@given(
    st.integers(0, 30), WEIGHTS, st.floats(0, 1), st.sampled_from([None, ("cheap",), ("good", "nowhere"), ("nowhere",)])
)
def test_every_figure_is_finite(
    count: int, objective: Objective, exploration: float, models: tuple[str, ...] | None
) -> None:
    """Whatever is proposed: no NaN, shares sum to 1 or there are none, intervals hold their means."""
    proposal = Proposal(objective, models, exploration=exploration, specs=SPECS)
    found = replay(logged(count, 3, graded=0.5), proposal)
    served = found["requests"] - found["unserved"]
    assert sum(row["proposedShare"] for row in found["models"]) == pytest.approx(1.0 if served else 0.0)
    for number in _numbers(found):
        assert np.isfinite(number)
    for part in found["predicted"].values():
        for interval in filter(None, part.values()):
            assert interval["low"] <= interval["mean"] <= interval["high"]


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [number for item in items for number in _numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


@given(
    st.lists(
        st.tuples(st.sampled_from(["cheap", "good"]), st.floats(0.001, 1.0), st.floats(0.0, 1e6), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.floats(0.0, 1.0),
)
def test_no_figure_is_impossible(outcomes: list[tuple[str, float, float, bool]], quality_weight: float) -> None:
    """Few and heavily weighted outcomes lead estimates astray, but never to a latency or cost below zero, to a quality
    above one, or to a difference that would lead there."""
    (request,) = logged(1, 0)
    rows = []
    for model, propensity, figure, right in outcomes:
        decision = {**request.decision, "selectedModel": model, "propensity": propensity}
        rows.append(LoggedRequest(decision, model, figure / 1e6, figure, float(right)))
    proposal = Proposal(Objective(quality_weight=quality_weight, cost_weight=1.0 - quality_weight))
    found = replay(rows, proposal)
    for kind in ("predicted", "offPolicy"):
        for name in ("costUsd", "latencyMs", "quality"):
            of, most = found[kind][name], 1.0 if name == "quality" else float("inf")
            for which, interval in of.items():
                if isinstance(interval, dict):
                    base = of["logged"]["mean"] if which == "difference" else 0.0
                    assert -base <= interval["low"] <= interval["mean"] <= interval["high"] <= most - base


def test_a_replay_compares_models_as_the_decision_did() -> None:
    """A catalogue's differences are believed in part: the policy of the time makes the same choices again."""
    specs = [
        spec("sim/a", quality_score=0.70, cost_per_input_token=1e-6, cost_per_output_token=1e-6),
        spec("sim/b", quality_score=0.76, cost_per_input_token=1.3e-6, cost_per_output_token=1.3e-6),
    ]
    objective = {"cost_weight": 0.2, "quality_weight": 0.8}
    shot = snapshot(router("sim/a", "sim/b", objective=objective), *specs)
    made = decide(shot, profile(), Neighbours.empty(), None)
    best = max(made.candidates, key=lambda each: 0.2 * each.cost.score + 0.8 * (each.quality.raw or 0.0))
    assert (made.selected, best.model) == ("sim/a", "sim/b")  # it makes a difference
    table = decision_table([LoggedRequest(made.to_wire(), "sim/a")])
    again = probabilities(table, Proposal(shot.router.objective))
    assert again[0, table.models.index("sim/a")] == 1.0
