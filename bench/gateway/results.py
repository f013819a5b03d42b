"""The results of `bench gateway`: of each setting (upstream latency, length, load) as JSON, and as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.gateway.rates import rate_problems, rates_table
from bench.report import Row, conditions, print_report, table
from bench.statistics import Phase, Summary, added, per_unit, share, summarize

LEAST_WIDTH = 150
# A kind of call is named `<target>.<way>`; every target is compared with the baseline asked the same way.
BASELINE = "direct"
WHOLE, FIRST_TOKEN = "whole", "firstToken"
NOOP = "noop"
_ONE_BY_ONE = " one by one"
# Whose processor time a target's answers take; the other targets are processes themselves.
_SERVED_BY = {BASELINE: "simulator", NOOP: "temporal"}

Cell = Mapping[str, Any]


def compare(phases: Mapping[str, Sequence[Phase]]) -> dict[str, Any]:
    """JSON: a summary of each kind of call, what each target adds to the baseline, and its share of the no-op rate."""
    summaries = {kind: summarize(found) for kind, found in phases.items()}
    noop_per_s = summaries[NOOP].durable_per_s if NOOP in summaries else None
    return {
        "calls": {kind: to_json(summary) for kind, summary in summaries.items()},
        "addedMs": {kind: _rounded(_added(kind, summaries)) for kind in summaries if _is_compared(kind)},
        "shareOfNoop": {
            kind: _rounded_number(share(summary.durable_per_s, noop_per_s))
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
        "cpuMsPerCall": {role: _rounded_number(value) for role, value in summary.cpu_ms_per_call.items()},
    }


def chunk_costs(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """JSON: what one more token of an answer costs each process, for each setting with long answers and the one that
    differs from it in the length alone."""
    known = {_key(cell): cell for cell in cells}
    costs = []
    for (*others, tokens), long in known.items():
        short_tokens = min(key[-1] for key in known if key[:-1] == tuple(others))
        if tokens > short_tokens:
            short = known[*others, short_tokens]
            costs += [_chunk_cost(kind, short, long) for kind in long["calls"] if kind in short["calls"]]
    return costs


def _key(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell[name] for name in ("upstreamMs", "oneByOne", "concurrency", "perS", "tokens"))


def _chunk_cost(kind: str, short: Cell, long: Cell) -> dict[str, Any]:
    tokens = short["tokens"], long["tokens"]
    cpu_ms = [cell["calls"][kind]["cpuMsPerCall"] for cell in (short, long)]
    costs = {role: per_unit(cpu_ms[1][role], cpu_ms[0].get(role), tokens[1] - tokens[0]) for role in cpu_ms[1]}
    served_by = serving(kind)
    return {
        "call": kind,
        "tokens": tokens,
        "oneByOne": long["oneByOne"],
        "servedBy": served_by,
        "cpuMsPerAnswer": [of.get(served_by) for of in cpu_ms],
        "cpuMsPerChunk": {role: None if cost is None else round(cost, 4) for role, cost in costs.items()},
    }


def serving(kind: str) -> str:
    """The process that answers this kind of call."""
    target = kind.partition(".")[0]
    return _SERVED_BY.get(target, target)


def show_gateway(results: Mapping[str, Any]) -> None:
    """Print the results on standard output, and every reason not to trust them."""
    print_report(*_tables(results), _conditions(results), *problems(results), least_width=LEAST_WIDTH)


def problems(results: Mapping[str, Any]) -> list[str]:
    """One line for each reason not to trust a figure: failed calls, degraded answers, restarted processes."""
    found = []
    for cell in results["results"]:
        for kind, call in cell["calls"].items():
            where = f"{setting_name(cell)}, {kind}"
            found += [f"{where}: {count} failed: {error}" for error, count in call["errors"].items()]
            if call["degraded"]:
                found.append(f"{where}: {call['degraded']} of {call['samples']} answers were degraded")
            found += [f"{where}: {role} was restarted" for role, cpu in call["cpuMsPerCall"].items() if cpu is None]
    return [*found, *rate_problems(results["rates"])]


def failed_calls(results: Mapping[str, Any]) -> int:
    """How many measured calls failed. Those that came by the clock are left out: refusing some is what is measured."""
    return sum(sum(call["errors"].values()) for cell in results["results"] for call in cell["calls"].values())


def setting_name(cell: Cell) -> str:
    """What tells a setting from the others, for people."""
    load = f"c = {cell['concurrency']}" if cell["perS"] is None else f"{cell['perS']:g} per s"
    return f"{cell['upstreamMs']:g} ms, {cell['tokens']} tokens{_ONE_BY_ONE if cell['oneByOne'] else ''}, {load}"


def _tables(results: Mapping[str, Any]) -> Iterator[Table]:
    for cell in results["results"]:
        yield table(f"upstream {setting_name(cell)}", _COLUMNS, _rows(cell), texts=("call",))
    if results["results"]:
        yield _cpu_table(results)
    if results["cpuMsPerChunk"]:
        yield table(_CHUNK_TITLE, _CHUNK_COLUMNS, map(_chunk_row, results["cpuMsPerChunk"]), texts=_CHUNK_COLUMNS[:4])
    if results["rates"]:
        yield rates_table(results["rates"], results["options"]["rateUpstreamMs"])
    yield memory_table(results["memory"])


_COLUMNS = ("call", "samples", "p50 / p95 / p99 ms", "added ms", "answers/s", "durable/s", "of no-op")


def _rows(cell: Cell) -> Iterator[Row]:
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


def _cpu_table(results: Mapping[str, Any]) -> Table:
    """A section for each setting, a column for each process."""
    calls = [call for cell in results["results"] for call in cell["calls"].values()]
    roles = list(dict.fromkeys(role for call in calls for role in call["cpuMsPerCall"]))
    idle = ["idle, per second", *(_number(results["idleCpuMsPerS"].get(role), "z.1f") for role in roles)]
    sections = [
        [[setting_name(cell)], *([f"  {kind}", *_cpu_row(call, roles)] for kind, call in cell["calls"].items())]
        for cell in results["results"]
    ]
    return table(
        "CPU ms per answer, until its workflow is closed", ("call", *roles), [idle], *sections, texts=("call",)
    )


def _cpu_row(call: Mapping[str, Any], roles: Iterable[str]) -> list[str]:
    return [_number(call["cpuMsPerCall"].get(role), "z.1f") for role in roles]


_CHUNK_TITLE = "CPU ms of the process that answers, by the length of the answer"
_CHUNK_COLUMNS = ("call", "process", "tokens", "arriving", "per short answer", "per long answer", "per chunk")


def _chunk_row(cost: Mapping[str, Any]) -> Row:
    short, long = cost["cpuMsPerAnswer"]
    per_chunk = _number(cost["cpuMsPerChunk"].get(cost["servedBy"]), "z.3f")
    tokens = " / ".join(str(count) for count in cost["tokens"])
    arriving = "one by one" if cost["oneByOne"] else "at once"
    return cost["call"], cost["servedBy"], tokens, arriving, _number(short, ".1f"), _number(long, ".1f"), per_chunk


def memory_table(memory: Sequence[Mapping[str, Any]]) -> Table:
    """What each process held, MiB, at each moment."""
    roles = list(dict.fromkeys(role for moment in memory for role in moment["mb"]))
    rows = [[moment["when"], *(_number(moment["mb"].get(role), ".0f") for role in roles)] for moment in memory]
    return table("memory, MiB", ("when", *roles), rows, texts=("when",))


def _conditions(results: Mapping[str, Any]) -> str:
    options, ready_s = results["options"], results["setup"]["startS"]
    rounds = f"{options['rounds']} rounds of {options['requests']} calls, " if results["results"] else ""
    return f"{rounds}{options['history']:,} past prompts; {conditions(results)}; ready in {ready_s:.1f} s"


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
