"""What `modelpilot demo` found out: who was chosen, what it cost and took, and what one big model would have cost."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from cli.output import table, usd
from modelpilot.requests.outcome import Usage

NOTE = (
    "An estimate: the same token counts at {model}'s catalogue prices. Another model would have written other answers."
)


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, as far as the report needs it. Latency: the provider's time plus ModelPilot's own, milliseconds."""

    model: str
    cost_usd: float | None
    latency_ms: float
    overhead_ms: float
    usage: Usage
    attempts: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """Always the same model: its name and what these answers would have cost with it (None: its price is unknown)."""

    model: str
    cost_usd: float | None


def answered(body: dict[str, Any]) -> Answered:
    """From the body of a routed answer."""
    described, usage = body["modelpilot"], body.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answered(
        model=described["selectedModel"],
        cost_usd=described["costUsd"],
        latency_ms=described["latencyMs"] + described["overheadMs"],
        overhead_ms=described["overheadMs"],
        usage=Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0, cached),
        attempts=len(described["attempts"]),
    )


def summary(answers: Sequence[Answered], failures: dict[str, int], wanted: int, baseline: Baseline) -> dict[str, Any]:
    """Everything that is shown, as JSON."""
    spent = sum(answer.cost_usd or 0.0 for answer in answers)
    saved = None if baseline.cost_usd is None or not answers else baseline.cost_usd - spent
    return {
        "requests": {"wanted": wanted, "answered": len(answers), "failed": sum(failures.values())},
        "failures": failures,
        "models": _models(answers),
        "spentUsd": spent,
        "overheadP50Ms": _percentile([answer.overhead_ms for answer in answers], 0.5),
        "baseline": {"model": baseline.model, "costUsd": baseline.cost_usd, "savedUsd": saved, "estimate": True},
    }


def _models(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    groups: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        groups[answer.model].append(answer)
    return [_model(name, groups[name], len(answers)) for name in sorted(groups, key=lambda name: -len(groups[name]))]


def _model(name: str, answers: Sequence[Answered], total: int) -> dict[str, Any]:
    latencies = [answer.latency_ms for answer in answers]
    return {
        "model": name,
        "requests": len(answers),
        "share": len(answers) / total,
        "inputTokens": sum(answer.usage.input_tokens for answer in answers),
        "outputTokens": sum(answer.usage.output_tokens for answer in answers),
        "spentUsd": sum(answer.cost_usd or 0.0 for answer in answers),
        "avgLatencyMs": sum(latencies) / len(latencies),
        "p95LatencyMs": _percentile(latencies, 0.95),
    }


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None


def rendered(result: dict[str, Any]) -> list[Any]:
    """The summary as lines and a table."""
    counts = result["requests"]
    columns = ("model", "requests", "share", "tokens in", "tokens out", "spent", "avg ms", "p95 ms")
    lines: list[Any] = ["", table(columns, (_row(model) for model in result["models"])), ""]
    lines.append(f"{counts['answered']} of {counts['wanted']} requests answered, {counts['failed']} failed.")
    lines += [f"  {count} × {reason}" for reason, count in result["failures"].items()]
    if result["overheadP50Ms"] is not None:
        lines.append(f"ModelPilot's own share of the latency: {result['overheadP50Ms']:.1f} ms (median).")
    return [*lines, *_saving(result)]


def _row(model: dict[str, Any]) -> list[Any]:
    return [
        model["model"],
        model["requests"],
        f"{model['share']:.0%}",
        model["inputTokens"],
        model["outputTokens"],
        usd(model["spentUsd"]),
        round(model["avgLatencyMs"]),
        round(model["p95LatencyMs"]),
    ]


def _saving(result: dict[str, Any]) -> list[str]:
    baseline, spent = result["baseline"], result["spentUsd"]
    if baseline["savedUsd"] is None:
        return [f"Spent {usd(spent)}."]
    share = baseline["savedUsd"] / baseline["costUsd"] if baseline["costUsd"] else 0.0
    saved = f"{usd(baseline['savedUsd'])} ({share:.0%}) saved"
    line = f"Spent {usd(spent)}; always {baseline['model']} would have cost {usd(baseline['costUsd'])}: {saved}."
    return [line, NOTE.format(model=baseline["model"])]
