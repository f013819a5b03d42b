"""The table of faults for people."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

# Narrower, and a call would be broken across lines.
LEAST_WIDTH = 152
_COLUMNS = ("fault", "verdict", "what happens", "the client gets", "calls the provider saw", "s")


def show_faults(results: Mapping[str, Any]) -> None:
    """Print one section per fault with a line per run, then why whatever did not pass did not."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, LEAST_WIDTH)
    console.print(_table(results))
    for fault in results["faults"]:
        for run in fault["runs"]:
            for reason in run["reasons"]:
                console.print(f"{fault['fault']}, {run['name']}: {run['verdict']}: {reason}", soft_wrap=True)
    console.print(f"{results['passed']} of {results['of']} faults at pass", soft_wrap=True)


def _table(results: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column == "s" else "left", overflow="fold")
    for fault in results["faults"]:
        # The fault and its verdict stand on the first line only, also where there is no run at all.
        named = [(fault["fault"], fault["verdict"]), *[("", "")] * max(len(fault["runs"]) - 1, 0)]
        for (name, verdict), run in zip(named, fault["runs"] or [None], strict=True):
            table.add_row(name, verdict, *_cells(run))
        table.add_section()
    return table


def _cells(run: Mapping[str, Any] | None) -> tuple[str, ...]:
    if run is None:
        return ("was not tried", "", "", "")
    return (run["name"], run["client"], "\n".join(run["providerCalls"]), f"{run['seconds']:.1f}")
