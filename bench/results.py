"""The results of one setting (upstream latency, concurrency) as JSON. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.statistics import Phase, Summary, added, share, summarize

# A kind of call is named `<target>.<way>`; every target is compared with the baseline asked the same way.
BASELINE = "direct"
WHOLE, FIRST_TOKEN = "whole", "firstToken"
NOOP = "noop"


def compare(phases: Mapping[str, Sequence[Phase]]) -> dict[str, Any]:
    """JSON: a summary of each kind of call, what each target adds to the baseline, and its share of the no-op rate."""
    summaries = {kind: summarize(found) for kind, found in phases.items()}
    return {
        "calls": {kind: to_json(summary) for kind, summary in summaries.items()},
        "addedMs": {kind: _rounded(_added(kind, summaries)) for kind in summaries if _is_compared(kind)},
        "shareOfNoop": {
            kind: _rounded_number(share(summary.durable_per_s, summaries[NOOP].durable_per_s))
            for kind, summary in summaries.items()
            if kind != NOOP and summary.durable_per_s is not None
        },
    }


def to_json(summary: Summary) -> dict[str, Any]:
    """The summary with camelCase names."""
    return {
        "samples": summary.samples,
        "errors": summary.errors,
        "degraded": summary.degraded,
        "ms": _rounded(summary.percentiles_ms),
        "meanMs": _rounded_number(summary.mean_ms),
        "answeredPerS": _rounded_number(summary.answered_per_s),
        "durablePerS": _rounded_number(summary.durable_per_s),
        "roundP50Ms": [round(value, 3) for value in summary.round_p50_ms],
        "roundPerS": [round(value, 3) for value in summary.round_per_s],
    }


def _is_compared(kind: str) -> bool:
    return kind != NOOP and not kind.startswith(f"{BASELINE}.")


def _added(kind: str, summaries: Mapping[str, Summary]) -> dict[str, float]:
    way = kind.partition(".")[2]
    return added(summaries[kind].percentiles_ms, summaries[f"{BASELINE}.{way}"].percentiles_ms)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _rounded_number(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
