"""`modelpilot demo`: the prompts are the same in every run, and the report adds up."""

import json
from collections import Counter

import pytest
from typer.testing import Result

from cli.demo import RUN_TAG, Answered, answers_table, summary
from cli.demo_prompts import demo_prompts
from modelpilot.requests.outcome import Usage
from tests.support.fake_gateway import Answer, FakeGateway, refusal, running_gateway
from tests.support.processes import modelpilot

SAVING = {
    "baseline": "alwaysBest", "requests": 20, "baselineCostUsd": 0.02, "savedCostUsd": 0.0171, "savedCostLowUsd": 0.015,
    "savedCostHighUsd": 0.0192, "savedCostShare": 0.855,
}  # fmt: skip


def answer(model: str = "cheap", cost_usd: float | None = 1e-4, latency_ms: float = 100.0) -> Answered:
    return Answered(model, cost_usd, latency_ms, 2.0, Usage(60, 40), 1)


def test_the_prompts_are_the_same_in_every_run_and_varied() -> None:
    """Two demos are comparable, and the dashboard has every kind of request and difficulty to show."""
    prompts = demo_prompts(300)
    assert prompts == demo_prompts(300)
    assert prompts[:10] == demo_prompts(10)
    assert len({prompt.text for prompt in prompts}) > 250
    assert len(Counter(prompt.kind for prompt in prompts)) == 7
    difficulties = Counter(prompt.difficulty for prompt in prompts)
    assert difficulties["easy"] > difficulties["medium"] > difficulties["hard"] > 20
    assert all(prompt.text.endswith(f"[{prompt.difficulty}]") for prompt in prompts)


def test_without_a_saving_none_is_invented() -> None:
    """Where the analytics know of none, the report says what was spent."""
    result = summary([answer()], {}, 1, None)
    assert answers_table(result)[-1] == "Spent $0.000100."


def test_the_summary_adds_up() -> None:
    """Shares, spending and percentiles per model, and the totals."""
    answers = [answer(latency_ms=float(number)) for number in range(1, 20)] + [answer("dear", 1e-3, 500.0)]
    result = summary(answers, {"503: away": 2}, 25, SAVING)
    assert result["requests"] == {"wanted": 25, "answered": 20, "failed": 2}
    cheap, dear = result["models"]
    assert (cheap["model"], cheap["requests"], cheap["share"], cheap["p95LatencyMs"]) == ("cheap", 19, 0.95, 19.0)
    assert (dear["spentUsd"], dear["outputTokens"]) == (1e-3, 40)
    assert result["spentUsd"] == 0.0029
    assert "2 × 503: away" in "\n".join(map(str, answers_table(result)))
    spent, estimate = answers_table(result)[-2:]
    saved = "always the best model would have cost $0.020000: $0.017100 (86%) saved."
    assert spent == f"Spent $0.002900; {saved}"
    assert "between $0.015000 and $0.019200" in estimate


def test_a_run_that_was_stopped_at_once_still_reports() -> None:
    """Ctrl-C before the first answer divides nothing by zero."""
    result = summary([], {}, 300, None)
    assert result["models"] == []
    assert answers_table(result)


def run(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("MODELPILOT_API_URL", gateway.url)
    monkeypatch.setenv("MODELPILOT_API_KEY", f"mp_{'5a' * 32}")
    gateway.answers["GET /api/routers/demo"] = (200, {"id": "demo"})
    rows = iter((0, 12))  # some are written a moment after their answers
    unknown = {"baseline": "alwaysPreferred", "requests": 0}
    gateway.answers["GET /api/analytics/summary"] = lambda _: (
        200, {"requests": next(rows, 12), "savings": {"baselines": [unknown, SAVING]}}
    )  # fmt: skip
    return modelpilot("demo", *arguments)


def routed(body: dict[str, object]) -> Answer:
    described = {"selectedModel": "cheap", "costUsd": 1e-5, "latencyMs": 5.0, "overheadMs": 1.0, "attempts": [{}]}
    return 200, {"usage": {"prompt_tokens": 6, "completion_tokens": 4}, "modelpilot": described}


def test_it_sends_every_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly as many requests as asked for, each with tags that the analytics can be filtered by."""
    with running_gateway() as gateway:
        gateway.answers["POST /router/demo"] = routed
        result = run(gateway, monkeypatch, "--count", "12", "--concurrency", "5", "--json")
    assert result.exit_code == 0, result.output
    sent = [body for call, body in gateway.calls if call == "POST /router/demo"]
    texts = sorted(body["messages"][0]["content"] for body in sent)
    assert texts == sorted(prompt.text for prompt in demo_prompts(12))
    assert all(body["modelpilot"]["tags"]["source"] == "demo" for body in sent)
    assert json.loads(result.stdout)["saving"] == SAVING
    (run_id,) = {body["modelpilot"]["tags"][RUN_TAG] for body in sent}
    asked = [call for call, _ in gateway.calls if call.startswith("GET /api/analytics/summary")]
    assert asked == [f"GET /api/analytics/summary?routerId=demo&tag.run={run_id}"] * 2


def test_failures_are_counted_by_reason_and_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some answers missing is exit code 1, with the reason instead of a stack trace."""
    with running_gateway() as gateway:
        gateway.answers["POST /router/demo"] = refusal(503, "Temporal is away")
        result = run(gateway, monkeypatch, "--count", "4")
    assert result.exit_code == 1
    assert "4 × 503: Temporal is away" in result.stdout
