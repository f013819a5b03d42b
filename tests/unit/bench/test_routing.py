"""`modelpilot bench routing`: files in, predictions out, and the figures that judge them."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from bench.routing.gain import Table, mean_gain, recovered_gap
from bench.routing.offline import BadRecording, read_history, read_queries
from cli.bench import app

MODELS = ("cheap", "dear")
RUN = CliRunner()


def line(number: int, **changes: Any) -> dict[str, Any]:
    """A sum, which only the dear model gets right, or a greeting, which both do."""
    hard = number % 2 == 0
    prompt = f"What is {number} times {number + 7} minus {number * 3}?" if hard else f"Say hello to visitor {number}!"
    outcomes = {"cheap": [0 if hard else 1, 1e-5, None, 20, 10], "dear": [1, 1e-3 if hard else 2e-4, 0.5, 20, 40]}
    return {
        "query_id": f"q{number}",
        "task": "sums" if hard else "hello",
        "prompt": prompt,
        "outcomes": outcomes,
    } | changes


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    """A file of recorded outcomes, gzipped where its name says so."""
    text = b"\n".join(orjson.dumps(each) for each in lines)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def predictions(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """What was written, by query."""
    lines = gzip.decompress(path.read_bytes()).splitlines()
    return {each["query_id"]: each["predictions"] for each in map(orjson.loads, lines)}


def test_predictions_follow_the_history(tmp_path: Path) -> None:
    """Every model of every query, in the contract's format; sums are seen to need the dear model and to cost more."""
    history = write(tmp_path / "h.jsonl.gz", [line(number) for number in range(200)])
    asked = [{"query_id": f"n{n}", "prompt": line(n)["prompt"], "models": [*MODELS, "stranger"]} for n in (300, 301)]
    queries, out = write(tmp_path / "q.jsonl", asked), tmp_path / "deep" / "p.jsonl.gz"
    ended = RUN.invoke(app, ["routing", "--history", str(history), "--queries", str(queries), "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    made = predictions(out)
    sums, hello = made["n300"], made["n301"]
    assert set(sums) == {*MODELS, "stranger"}
    assert sums["dear"]["quality"] > sums["cheap"]["quality"] + 0.5
    assert hello["cheap"]["quality"] > 0.8
    assert sums["dear"]["costUsd"] > 2.0 * hello["dear"]["costUsd"]
    assert sums["stranger"]["quality"] == pytest.approx(0.5, abs=0.25)  # neutral, but for what all models show here
    numbers = [value for each in made.values() for pair in each.values() for value in pair.values()]
    assert all(math.isfinite(number) and number >= 0.0 for number in numbers)


def test_outcomes_of_the_queries_are_ignored(tmp_path: Path) -> None:
    """The same predictions whether the file to be predicted has outcomes (even absurd ones) or not."""
    history = write(tmp_path / "h.jsonl", [line(number) for number in range(60)])
    absurd = {model: [1, 9e9, 1e9, 10**9, 10**9] for model in MODELS}
    for name, extra in (("with", {"outcomes": absurd}), ("without", {"outcomes": None, "models": MODELS})):
        queries = write(tmp_path / f"{name}.jsonl", [line(number, **extra) for number in range(60, 70)])
        told = ["--history", str(history), "--queries", str(queries), "--out", str(tmp_path / f"{name}.out.gz")]
        assert RUN.invoke(app, ["routing", *told]).exit_code == 0
    assert predictions(tmp_path / "with.out.gz") == predictions(tmp_path / "without.out.gz")


def test_a_history_too_small_to_fit_still_predicts(tmp_path: Path) -> None:
    """Neighbours and means remain; the command says that the fit was refused."""
    history = write(tmp_path / "h.jsonl", [line(number) for number in range(6)])
    queries, out = write(tmp_path / "q.jsonl", [line(9)]), tmp_path / "p.jsonl.gz"
    ended = RUN.invoke(app, ["routing", "--history", str(history), "--queries", str(queries), "--out", str(out)])
    assert ended.exit_code == 0, ended.output
    assert "refused" in ended.output
    assert set(predictions(out)["q9"]) == set(MODELS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no lines"),
        (b"{", "line 1"),
        (b"[1]", "query_id and prompt"),
        (b'{"query_id": "a", "prompt": "b"}', "outcomes"),
        (b'{"query_id": "a", "prompt": "b", "outcomes": {"m": [1, 2]}}', "was expected"),
        (b'{"query_id": "a", "prompt": "b", "outcomes": {"m": [2, 0, null, 1, 1]}}', "above 1"),
        (b'{"query_id": "a", "prompt": "b", "outcomes": {"m": [1, -1, null, 1, 1]}}', "was expected"),
        (b'{"query_id": "a", "prompt": "b", "outcomes": {"m": [true, 1, null, 1, 1]}}', "was expected"),
    ],
)
def test_bad_history_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    """The message names the file, and the line where there is one."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text)
    with pytest.raises(BadRecording, match=said) as caught:
        read_history(path)
    assert "bad.jsonl" in str(caught.value)


def test_bad_queries_are_named(tmp_path: Path) -> None:
    """Missing models, and a query that occurs twice."""
    with pytest.raises(BadRecording, match="models"):
        read_queries(write(tmp_path / "a.jsonl", [{"query_id": "a", "prompt": "b"}]))
    with pytest.raises(BadRecording, match="twice"):
        read_queries(write(tmp_path / "b.jsonl", [line(1), line(1)]))


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    """Exit code 1 for a broken file, 2 for wrong usage; never a traceback."""
    broken = tmp_path / "h.jsonl.gz"
    broken.write_bytes(b"not gzip")
    told = ["--history", str(broken), "--queries", str(broken), "--out", str(tmp_path / "p")]
    ended = RUN.invoke(app, ["routing", *told])
    assert ended.exit_code == 1
    assert "h.jsonl.gz" in ended.output
    assert RUN.invoke(app, ["routing", "--history", str(broken)]).exit_code == 2
    assert RUN.invoke(app, ["routing", *told, "--evaluate", str(tmp_path)]).exit_code == 2


def test_evaluation_prints_the_gain(tmp_path: Path) -> None:
    """A set where routing pays: gain, interval, share of the oracle, and tasks left out."""
    for name, numbers in (("train", range(160)), ("dev", range(160, 220))):
        write(tmp_path / f"{name}.jsonl.gz", [with_third(line(number)) for number in numbers])
    (tmp_path / "pools.json").write_bytes(orjson.dumps({"full": ["cheap"], "r00": [*MODELS, "third"]}))
    ended = RUN.invoke(app, ["routing", "--evaluate", str(tmp_path), "--json"])
    assert ended.exit_code == 0, ended.output
    results = orjson.loads(ended.stdout)
    gain = results["dev"]["estimators"]
    assert gain["low"] <= gain["points"] <= gain["high"]
    assert gain["points"] > 1.0 > results["dev"]["globalMean"]["points"]
    assert {task["task"] for task in results["leaveOneTaskOut"]} == {"sums", "hello"}
    assert "of the oracle's" in RUN.invoke(app, ["routing", "--evaluate", str(tmp_path)]).stdout


def with_third(made: dict[str, Any]) -> dict[str, Any]:
    """The line with a third model, good at nothing."""
    return made | {"outcomes": made["outcomes"] | {"third": [0, 1e-4, None, 20, 10]}}


def table(quality: list[list[float]], cost: list[list[float]]) -> Table:
    """Truth or expectation of two models."""
    return Table(MODELS, np.array(quality, float), np.array(cost, float))


def test_gain_of_knowing_everything_is_the_oracles() -> None:
    """Full share with the truth as expectation, no gain with the means."""
    truth = table([[0, 1], [1, 1], [1, 0], [0, 1]] * 5, [[1e-4, 1e-2]] * 20)
    pools = {"r00": MODELS}
    assert mean_gain(truth, truth, pools).share == pytest.approx(1.0)
    means = table([[0.5, 0.75]] * 20, [[1e-4, 1e-2]] * 20)
    plain = mean_gain(truth, means, pools, resamples=20)
    assert plain.points == pytest.approx(0.0, abs=1e-9)
    assert plain.low <= plain.points <= plain.high


def test_the_area_is_that_of_a_hull_known_by_hand() -> None:
    """Costs of 1 and e: single models lie on (1, 0) and (e, 1), the oracle reaches 1 at the price of (1 + e) / 2."""
    cost = [[1.0, math.e]] * 2
    truth = table([[1, 1], [0, 1]], cost)
    both = mean_gain(truth, truth, {"r00": MODELS})
    # Height over x from (1, 0.5): without routing a line to (e, 1), with it one to (half way, 1), and 1 from there on.
    half = (1.0 + math.e) / 2.0
    x = np.exp(np.linspace(0.0, 1.0, 200_001))
    alone = 0.5 + 0.5 * (x - 1.0) / (math.e - 1.0)
    routed = np.minimum(0.5 + 0.5 * (x - 1.0) / (half - 1.0), 1.0)
    assert both.points == pytest.approx(100.0 * (routed - alone).mean(), abs=0.02)


def test_recovered_gap_of_a_perfect_and_of_a_useless_router() -> None:
    """Perfect: the gap is closed by the few queries that need it; in order of arrival: half the area."""
    quality = [[0.0, 1.0] if number % 4 == 0 else [1.0, 1.0] for number in range(400)]
    truth = table(quality, [[1, 10]] * 400)
    apgr, half, most = recovered_gap(truth, truth, "dear", "cheap")
    assert apgr == pytest.approx(1.0 - 0.25 / 2.0, abs=0.01)
    assert half == pytest.approx(0.125, abs=0.01)
    assert most == pytest.approx(0.2, abs=0.01)
    assert recovered_gap(truth, table([[0, 0]] * 400, [[1, 10]] * 400), "dear", "cheap")[0] == pytest.approx(
        0.5, abs=0.01
    )
