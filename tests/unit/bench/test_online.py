"""`modelpilot bench routing --online`: only what production reveals may be learnt from, and figures are honest."""

import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest

from bench.routing.offline import BadRecording
from bench.routing.online import Case, CaseResult, OnlineOptions, World, interval, run_case, summarize
from bench.routing.online_learner import (
    Prompts,
    Recording,
    arrival_order,
    catalogue,
    load_recording,
    profiles_of,
    utilities,
)
from modelpilot.learning.estimation.basis import make_basis

MODELS = ("cheap", "dear")


def _recording(prompts: int = 300) -> tuple[Recording, Prompts]:
    """Two kinds of prompts, of which each model masters one; the vectors tell them apart."""
    draw = np.random.default_rng(7)
    kind = np.arange(prompts) % 2
    quality = np.stack([kind == 0, kind == 1], axis=1).astype(float)
    tokens = np.full((prompts, 2, 2), 100.0)
    cost = tokens.sum(2) * np.array([1e-6, 1.1e-6])
    texts, tasks = tuple(f"prompt {i}" for i in range(prompts)), tuple(f"kind {k}" for k in kind)
    recording = Recording(texts, tasks, MODELS, quality, cost, tokens)
    vectors = np.eye(8, dtype=np.float32)[kind] + 0.1 * draw.standard_normal((prompts, 8)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return recording, Prompts(unit.astype(np.float32), profiles_of(recording))


def _run(graded_share: float, exploration: float = 0.1) -> CaseResult:
    recording, prompts = _recording()
    basis = make_basis(prompts.vectors, 50)
    options = OnlineOptions(orders=1, exploration=exploration, delay_requests=3.0, noise=0.0, blur=0.0)
    return run_case(Case((0.1, 0.9), graded_share, 0), World(recording, None, recording, prompts, options, basis))


def test_a_router_that_sees_grades_beats_its_catalogue_and_the_best_single_model() -> None:
    """Where prompts say which model is right, learning from chosen outcomes alone has to find it."""
    utility = _run(1.0).utility
    assert utility["router"] > utility["best_single"] + 0.1
    assert utility["prior"] - 1e-9 <= utility["best_single"] < utility["best_per_task"] <= utility["oracle"]


def test_without_grades_there_is_nothing_to_learn_quality_from() -> None:
    """Ungraded outcomes must not leak their recorded quality into decisions."""
    blind = _run(0.0, exploration=0.0)
    assert blind.utility["router"] == pytest.approx(blind.utility["prior"], abs=0.02)
    assert blind.explored == 0
    assert blind.exploration_cost == 0.0


def test_tasks_appear_over_time_and_every_prompt_arrives_once() -> None:
    """The order is a permutation, reproducible, in which some tasks begin late."""
    tasks = [f"task {i % 5}" for i in range(1_000)]
    order = arrival_order(tasks, np.random.default_rng(1))
    assert sorted(order.tolist()) == list(range(1_000))
    assert (order == arrival_order(tasks, np.random.default_rng(1))).all()
    first = {task: next(at for at, i in enumerate(order) if tasks[i] == task) for task in set(tasks)}
    assert min(first.values()) == 0
    assert max(first.values()) > 50


def test_the_catalogue_has_the_prices_behind_the_recorded_costs() -> None:
    """Costs are prices times tokens, so the prices come back from them."""
    draw = np.random.default_rng(3)
    tokens = draw.integers(10, 500, (50, 2, 2)).astype(float)
    prices = np.array([[1e-6, 4e-6], [2e-5, 6e-5]])
    cost = (tokens * prices).sum(2)
    texts = tuple(str(i) for i in range(50))
    recording = Recording(texts, texts, MODELS, np.full((50, 2), 0.5), cost, tokens)
    specs = catalogue(recording, 0.0, draw)
    found = [[specs[m].cost_per_input_token, specs[m].cost_per_output_token] for m in MODELS]
    assert np.allclose(np.array(found, float), prices, rtol=1e-6)
    assert specs["cheap"].quality_score == pytest.approx(0.5)


def test_utility_is_the_objective_with_the_true_outcomes() -> None:
    """All weight on quality gives the quality, all on cost the cheapest model a full score."""
    recording, _ = _recording(10)
    assert (utilities(recording, 0.0, 1.0) == recording.quality).all()
    assert (utilities(recording, 1.0, 0.0)[:, 0] == 1.0).all()


def test_a_recording_is_read_and_a_wrong_file_is_refused(tmp_path: Path) -> None:
    """Outcomes become arrays; a line without the models of the first is an error that names the file."""
    outcomes = {"a": [1, 0.5, None, 3, 4], "b": [0, 0.25, None, 3, 5]}
    good = {"query_id": "q", "prompt": "p", "task": "t", "outcomes": outcomes}
    path = tmp_path / "good.jsonl.gz"
    path.write_bytes(gzip.compress(orjson.dumps(good) + b"\n"))
    recording = load_recording(path)
    assert recording.models == ("a", "b")
    assert recording.tokens[0, 1].tolist() == [3.0, 5.0]
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(orjson.dumps(good) + b"\n" + orjson.dumps({**good, "outcomes": {"a": outcomes["a"]}}))
    with pytest.raises(BadRecording, match=r"bad\.jsonl"):
        load_recording(bad)


def test_intervals_and_summaries() -> None:
    """Known differences give the textbook interval, and a single order none."""
    assert interval(np.array([0.1])) == {"mean": 0.1, "low": None, "high": None}
    found = interval(np.array([0.0, 0.2]))
    assert found["mean"] == 0.1
    assert found["high"] == pytest.approx(0.1 + 12.71 * 0.1, abs=1e-3)
    result = _run(1.0)
    summary = summarize([result, result])[0]
    assert summary["orders"] == 2
    gain = summary["gainOver"]["oracle"]
    assert gain["low"] == gain["mean"] == gain["high"] <= 0.0
