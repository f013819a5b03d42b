"""`modelpilot bench routing --evaluate DIR`: what the estimators gain on recorded outcomes.

DIR has `train.jsonl.gz`, `dev.jsonl.gz` and, for sets of more than two models, `pools.json` ({name: [model, …]}; the
pools `r00`, `r01`, … count).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.routing.gain import Gain, Table, mean_gain, recovered_gap
from bench.routing.offline import (
    BadRecording,
    Prompts,
    Query,
    RecordedHistory,
    embed_prompts,
    outcome_table,
    read_history,
)

RESAMPLES = 200
PAIR_SEEDS, PAIR_SIZES = 10, (1_500, 7_000)
Say = Callable[[str], None]
Pools = Mapping[str, Sequence[str]]
Places = NDArray[np.intp]


async def evaluate(folder: Path, say: Say) -> dict[str, Any]:
    """Every figure of a set as JSON. Raises BadRecording, OSError."""
    train, dev = (read_history(folder / f"{part}.jsonl.gz") for part in ("train", "dev"))
    truth = outcome_table([*train, *dev], folder)
    say(f"{len(train):,} prompts to learn from, {len(dev):,} to be judged by: embedding")
    queries = [*train, *dev]
    prompts = await embed_prompts([query.prompt for query in queries])
    if len(truth.models) == 2:
        return {"pair": pair(queries, prompts, truth, say)}
    pools = _pools(folder / "pools.json")
    first = np.arange(len(train))
    held = _dev(queries, prompts, truth, pools, first, say)
    return {"dev": held, "leaveOneTaskOut": _tasks(train, prompts.at(first), truth.at(first), pools, say)}


def pair(queries: Sequence[Query], prompts: Prompts, truth: Table, say: Say) -> list[dict[str, Any]]:
    """A strong and a weak model: history of N random rows, judged by all others, means over seeds."""
    strong, weak = (truth.models[place] for place in np.argsort(-truth.quality.mean(axis=0)))
    found = []
    for size in (size for size in PAIR_SIZES if size < len(queries)):
        figures = []
        for seed in range(PAIR_SEEDS):
            say(f"{size:,} rows of history, draw {seed + 1} of {PAIR_SEEDS}")
            order = np.random.default_rng(seed).permutation(len(queries))
            expected = _expected(queries, prompts, truth.models, order[:size], order[size:])
            figures.append(recovered_gap(truth.at(order[size:]), expected, strong, weak))
        mean, spread = np.mean(figures, axis=0), np.std(figures, axis=0) / len(figures) ** 0.5
        names = ("apgr", "strongShareForHalf", "strongShareForMost")
        found.append({"history": size, **dict(zip(names, mean.tolist(), strict=True)), "apgrError": float(spread[0])})
    return found


def _dev(
    queries: Sequence[Query], prompts: Prompts, truth: Table, pools: Pools, first: Places, say: Say
) -> dict[str, Any]:
    say("fitting on train, predicting dev")
    rest = np.arange(len(first), len(queries))
    expected = _expected(queries, prompts, truth.models, first, rest)
    say(f"bootstrap, {RESAMPLES} resamples")
    return {
        "estimators": asdict(mean_gain(truth.at(rest), expected, pools, RESAMPLES)),
        "globalMean": asdict(mean_gain(truth.at(rest), _means(truth.at(first), len(rest)), pools)),
    }


def _tasks(queries: Sequence[Query], prompts: Prompts, truth: Table, pools: Pools, say: Say) -> list[dict[str, Any]]:
    """Each task predicted from all others, beside the global mean per model."""
    tasks = np.array([query.task for query in queries])
    found = []
    for task in sorted(set(tasks.tolist())):
        say(f"without the task {task}")
        there, others = np.flatnonzero(tasks == task), np.flatnonzero(tasks != task)
        if not len(others):
            return []
        expected = _expected(queries, prompts, truth.models, others, there)
        ours = mean_gain(truth.at(there), expected, pools)
        plain = mean_gain(truth.at(there), _means(truth.at(others), len(there)), pools)
        found.append({"task": task, "queries": len(there), "points": ours.points, "globalMean": plain.points})
    return found


def _expected(
    queries: Sequence[Query],
    prompts: Prompts,
    models: tuple[str, ...],
    known: Places,
    asked: Places,
) -> Table:
    history = RecordedHistory([queries[place] for place in known], prompts.at(known))
    made = list(history.predict(prompts.at(asked), [models] * len(asked)))
    pairs = np.array([[each[model] for model in models] for each in made])
    return Table(models, pairs[:, :, 0], pairs[:, :, 1])


def _means(known: Table, count: int) -> Table:
    tiled = [np.tile(values.mean(axis=0), (count, 1)) for values in (known.quality, known.cost_usd)]
    return Table(known.models, *tiled)


def _pools(path: Path) -> Pools:
    try:
        pools = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise BadRecording(f"{path}: {error}") from error
    drawn = {name: models for name, models in pools.items() if name[0] == "r" and name[1:].isdigit()}
    if not drawn:
        raise BadRecording(f"{path}: no pools r00, r01, … in it")
    return drawn


def describe(results: Mapping[str, Any]) -> list[str]:
    """The figures as lines of text."""
    lines = []
    if "dev" in results:
        gain, plain = (Gain(**results["dev"][name]) for name in ("estimators", "globalMean"))
        lines.append(
            f"dev: {gain.points:+.2f} points over not routing (95 %: {gain.low:+.2f} to {gain.high:+.2f}), "
            f"{100 * gain.share:.0f} % of the oracle's; global mean {plain.points:+.2f}"
        )
    lines += [
        f"task never seen, {task['task']} ({task['queries']}): {task['points']:+.2f}, "
        f"global mean {task['globalMean']:+.2f}"
        for task in results.get("leaveOneTaskOut", ())
    ]
    lines += [
        f"history of {row['history']:,}: APGR {row['apgr']:.3f} ± {row['apgrError']:.3f}, strong calls for 50 % of "
        f"the gap {row['strongShareForHalf']:.2f}, for 80 % {row['strongShareForMost']:.2f}"
        for row in results.get("pair", ())
    ]
    return lines
