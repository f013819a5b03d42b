"""The results for people: one table per setting."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

# Narrower, and figures would be broken across lines.
LEAST_WIDTH = 124
_COLUMNS = ("call", "samples", "p50 / p95 / p99 ms", "added ms", "answers/s", "durable/s", "of no-op")


def show(results: Mapping[str, Any]) -> None:
    """Print the results of `bench gateway` on standard output, and every reason not to trust them."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, LEAST_WIDTH)
    for cell in results["results"]:
        console.print(_table(cell))
    for line in (_conditions(results), *problems(results)):
        console.print(line, soft_wrap=True)


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


def _table(cell: Mapping[str, Any]) -> Table:
    table = Table(title=_setting(cell), title_justify="left", box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "call" else "right", overflow="fold")
    for kind, call in cell["calls"].items():
        table.add_row(
            kind,
            str(call["samples"]),
            _three(call["ms"], ".1f"),
            _three(cell["addedMs"].get(kind, {}), "+.1f"),
            _number(call["answeredPerS"], ".1f"),
            _number(call["durablePerS"], ".1f"),
            _number(cell["shareOfNoop"].get(kind), ".2f"),
        )
    return table


def _conditions(results: Mapping[str, Any]) -> str:
    machine, options, setup = results["machine"], results["options"], results["setup"]
    load = " ".join(f"{value:.2f}" for value in machine["loadAverageBefore"])
    return (
        f"{options['rounds']} rounds of {options['requests']} calls, {options['history']:,} past prompts; "
        f"{machine['cpusUsable']} CPUs, load before {load}; ready in {setup['startS']:.1f} s"
    )


def _three(percentiles: Mapping[str, float], style: str) -> str:
    return " / ".join(_number(percentiles[name], style) for name in ("p50", "p95", "p99") if name in percentiles)


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)
