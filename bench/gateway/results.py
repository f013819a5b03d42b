"""The results of `bench gateway`: of each setting (upstream latency, concurrency) as JSON, and as tables for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.report import Row, conditions, print_report, table
from bench.statistics import Phase, Summary, added, share, summarize

LEAST_WIDTH = 124
_COLUMNS = ("call", "samples", "p50 / p95 / p99 ms", "added ms", "answers/s", "durable/s", "of no-op")
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


def show_gateway(results: Mapping[str, Any]) -> None:
    """Print the results on standard output, and every reason not to trust them."""
    tables = [table(_setting(cell), _COLUMNS, _rows(cell), texts=("call",)) for cell in results["results"]]
    print_report(*tables, _conditions(results), *problems(results), least_width=LEAST_WIDTH)


def problems(results: Mapping[str, Any]) -> list[str]:
    """One line for each reason not to trust a figure: failed calls and degraded answers."""
    found = []
    for cell in results["results"]:
        for kind, call in cell["calls"].items():
            where = f"{_setting(cell)}, {kind}"
            found += [f"{where}: {count} failed: {error}" for error, count in call["errors"].items()]
            if call["degraded"]:
                found.append(f"{where}: {call['degraded']} of {call['samples']} answers were degraded")
    return found


def failed_calls(results: Mapping[str, Any]) -> int:
    """How many measured calls failed."""
    return sum(sum(call["errors"].values()) for cell in results["results"] for call in cell["calls"].values())


def _setting(cell: Mapping[str, Any]) -> str:
    return f"upstream {cell['upstreamMs']:g} ms, c = {cell['concurrency']}"


def _rows(cell: Mapping[str, Any]) -> Iterator[Row]:
    for kind, call in cell["calls"].items():
        yield (
            kind,
            str(call["samples"]),
            _three(call["ms"], ".1f"),
            _three(cell["addedMs"].get(kind, {}), "+.1f"),
            _number(call["answeredPerS"], ".1f"),
            _number(call["durablePerS"], ".1f"),
            _number(cell["shareOfNoop"].get(kind), ".2f"),
        )


def _conditions(results: Mapping[str, Any]) -> str:
    options, ready_s = results["options"], results["setup"]["startS"]
    return (
        f"{options['rounds']} rounds of {options['requests']} calls, {options['history']:,} past prompts; "
        f"{conditions(results)}; ready in {ready_s:.1f} s"
    )


def _three(percentiles: Mapping[str, float], style: str) -> str:
    return " / ".join(_number(percentiles[name], style) for name in ("p50", "p95", "p99") if name in percentiles)


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)


def _is_compared(kind: str) -> bool:
    return kind != NOOP and not kind.startswith(f"{BASELINE}.")


def _added(kind: str, summaries: Mapping[str, Summary]) -> dict[str, float]:
    way = kind.partition(".")[2]
    return added(summaries[kind].percentiles_ms, summaries[f"{BASELINE}.{way}"].percentiles_ms)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _rounded_number(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
