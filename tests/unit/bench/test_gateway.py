"""`modelpilot bench gateway`: what is measured, and that the tables say what the figures are."""

import io
from collections import Counter
from contextlib import redirect_stdout
from typing import Any

import orjson
import pytest

from bench import machine
from bench.gateway.bench import GatewayOptions, settings_of
from bench.gateway.load import Arrivals
from bench.gateway.peers import Peer, litellm_config
from bench.gateway.rates import rate_problems, to_json
from bench.gateway.results import chunk_costs, compare, failed_calls, problems, serving, setting_name, show_gateway
from bench.gateway.router import Answers
from bench.statistics import Phase
from simulator.faults import split_model

SMALL = GatewayOptions(concurrency=(1, 16), upstream_ms=(20.0, 0.0), steady_per_s=4.0, steady_s=30.0)


def cell(tokens: int, cpu_ms: float | None, **setting: Any) -> dict[str, Any]:
    """A setting with two calls of each kind; `cpu_ms` is what the gateway used for both."""
    used = {"gateway": cpu_ms, "simulator": 4.0}
    phases = {
        "direct.whole": [Phase([20.0, 22.0], answered_s=1.0, cpu_ms={"gateway": 0.0, "simulator": 2.0})],
        "gateway.whole": [Phase([30.0, 34.0], answered_s=1.0, durable_s=2.0, cpu_ms=used)],
    }
    about = {"upstreamMs": 20.0, "concurrency": 16, "perS": None, "tokens": tokens, "oneByOne": False}
    return {**about, **setting, **compare(phases)}


def arrivals() -> Arrivals:
    """Ten requests: five answered, two refused, one 500, two broken."""
    return Arrivals(
        latencies_ms=[10.0, 20.0, 30.0, 40.0, 50.0],
        late_ms=[0.5] * 9 + [7.0],
        statuses=Counter({503: 2, 500: 1}),
        broken=Counter({"TimeoutError": 2}),
        degraded=1,
    )


def results(**parts: Any) -> dict[str, Any]:
    """What a run gives; `parts` replace those of a small one."""
    rate = {"perS": 300.0, "seconds": 10.0, **to_json(arrivals(), provider_calls=7), "workflows": 6, "closedS": 1.25}
    cells = [cell(20, 50.0), cell(800, 206.0)]
    return {
        **machine.about("gateway", GatewayOptions()),
        "setup": {"startS": 8.0, "historyFillS": 3.0},
        "idleCpuMsPerS": {"gateway": 31.0, "simulator": 0.0},
        "results": cells,
        "cpuMsPerChunk": chunk_costs(cells),
        "rates": [rate],
        "memory": [{"when": "at the start", "mb": {"gateway": 203.0}}, {"when": "c = 16", "mb": {"gateway": 253.0}}],
        **parts,
    }


def shown(found: dict[str, Any]) -> str:
    """What is printed, each line with single spaces."""
    with redirect_stdout(io.StringIO()) as printed:
        show_gateway(found)
    return "\n".join(" ".join(line.split()) for line in printed.getvalue().splitlines())


def test_settings_are_rounds_a_steady_rate_and_long_answers() -> None:
    """Every concurrency meets every latency; long answers differ from one of these settings in their length alone."""
    made = list(settings_of(SMALL))
    assert [setting_name(setting.to_json()) for setting in made] == [
        "20 ms, 20 tokens, c = 1",
        "20 ms, 20 tokens, c = 16",
        "0 ms, 20 tokens, c = 1",
        "0 ms, 20 tokens, c = 16",
        "20 ms, 20 tokens, 4 per s",
        "20 ms, 800 tokens, c = 16",
        "20 ms, 20 tokens one by one, c = 16",
        "20 ms, 800 tokens one by one, c = 16",
    ]
    assert made[4].requests == 120
    assert list(settings_of(GatewayOptions(only="rates"))) == []


def test_a_chunk_costs_the_difference_of_lengths() -> None:
    """The cost of a request without its tokens is left out: (103 - 25) ms by 780 tokens."""
    costs = {cost["call"]: cost for cost in chunk_costs([cell(20, 50.0), cell(800, 206.0)])}
    assert costs["gateway.whole"]["cpuMsPerAnswer"] == [25.0, 103.0]
    assert costs["gateway.whole"]["cpuMsPerChunk"] == {"gateway": 0.1, "simulator": 0.0}
    assert costs["direct.whole"]["servedBy"] == "simulator"


def test_the_simulator_is_told_how_to_answer() -> None:
    """Every model takes equally long: all at once after the same time, or one by one at the pace of one of them."""
    assert Answers(20.0, 800).model("large") == "large+latency20+tokens800"
    assert Answers(20.0, 800, one_by_one=True).model("large") == "small+firsttoken20+tokens800"
    for answers in (Answers(20.0), Answers(20.0, one_by_one=True)):
        name, faults = split_model(answers.model())
        assert (name, len(faults)) == ("small", 2)


def test_only_equal_settings_give_a_cost_per_chunk() -> None:
    """With another load or latency the difference would not be that of the length."""
    short = cell(20, 50.0)
    for setting in ({"upstreamMs": 0.0}, {"concurrency": 1}, {"concurrency": None, "perS": 4.0}, {"oneByOne": True}):
        assert chunk_costs([short, cell(800, 206.0, **setting)]) == []
    assert chunk_costs([short]) == []


@pytest.mark.parametrize(
    ("kind", "process"),
    [
        ("gateway.whole", "gateway"),
        ("direct.firstToken", "simulator"),
        ("litellm.whole", "litellm"),
        ("noop", "temporal"),
    ],
)
def test_who_serves(kind: str, process: str) -> None:
    """Each call's cost is that of the process which answers it, a peer's its own."""
    assert serving(kind) == process


def test_comparison_needs_no_noop() -> None:
    """Long answers are measured without no-op workflows, and get no share of their rate."""
    found = cell(800, 206.0)
    assert found["shareOfNoop"] == {"gateway.whole": None}
    assert found["addedMs"]["gateway.whole"]["p50"] == pytest.approx(11.0)


def test_every_arrival_has_one_place() -> None:
    """Answered, refused, other and broken add up to what was asked, and paid calls without an answer are named."""
    found = to_json(arrivals(), provider_calls=7)
    assert found["asked"] == found["answered"] + found["refused"] + 1 + 2
    assert (found["answered"], found["refused"], found["otherStatuses"]) == (5, 2, {"500": 1})
    assert (found["providerCalls"], found["paidNotAnswered"]) == (7, 2)
    assert (found["ms"]["p50"], found["lateMs"]["max"]) == (30.0, 7.0)
    assert to_json(Arrivals(), 0)["ms"] == {}


def test_tables_show_every_part() -> None:
    """Each figure stands in its table, with its process or its rate."""
    text = shown(results())
    assert "upstream 20 ms, 20 tokens, c = 16" in text
    assert "idle, per second 31.0 0.0" in text
    assert "gateway.whole 103.0 2.0" in text
    assert "gateway.whole gateway 20 / 800 at once 25.0 103.0 0.100" in text
    assert "300 10 5 2 1 2 30 / 50 6.4 / 7.0 7 2 1.2" in text
    assert "at the start 203" in text


def test_reasons_not_to_trust_a_figure_are_said() -> None:
    """A restarted process, open workflows, errors and degraded answers each have a line."""
    rate = {**results()["rates"][0], "workflows": None, "closedS": None}
    found = results(results=[cell(20, None)], rates=[rate])
    assert problems(found) == [
        "20 ms, 20 tokens, c = 16, gateway.whole: gateway was restarted",
        "300 per s: 1 × status 500",
        "300 per s: 2 × TimeoutError",
        "300 per s: 1 of 5 answers were degraded",
        "300 per s: some workflows were not closed 300 s later",
    ]
    assert "not closed" in shown(found)
    assert list(rate_problems([])) == []


def test_refusals_beyond_the_capacity_are_no_failure() -> None:
    """The exit code speaks of calls that had to succeed."""
    assert failed_calls(results()) == 0
    failed = compare({"direct.whole": [Phase(errors=Counter({"reset": 2}))]})
    assert failed_calls(results(results=[{**cell(20, 1.0), **failed}])) == 2


def test_results_of_the_rates_alone_can_be_shown() -> None:
    """With --only rates there are no rounds, and no empty tables for them."""
    text = shown(results(results=[], cpuMsPerChunk=[]))
    assert "requests by the clock" in text
    assert "CPU ms" not in text


def test_results_are_json() -> None:
    """Whatever was left out or unknown, the file can be written and read."""
    found = results(results=[cell(20, None)])
    assert orjson.loads(orjson.dumps(found))["rates"][0]["answered"] == 5


def test_a_peer_is_one_more_target() -> None:
    """It is asked for the simulator's model by name; Portkey's way to it is in its headers, LiteLLM's in its file."""
    target = Peer("portkey", 1, "http://127.0.0.1:1/v1/chat/completions", {"x-portkey-provider": "openai"}).target("m")
    assert (target.name, target.model, dict(target.headers)) == ("portkey", "m", {"x-portkey-provider": "openai"})
    (only,) = litellm_config(["small+tokens20"], "http://127.0.0.1:2/v1")["model_list"]
    assert only["model_name"] == "small+tokens20"
    assert only["litellm_params"]["model"] == "openai/small+tokens20"
    assert only["litellm_params"]["api_base"] == "http://127.0.0.1:2/v1"
