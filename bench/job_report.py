"""The results of `bench jobs` for people."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_COLUMNS = ("job", "rows", "seconds", "rows/s", "memory MB (before → peak)", "more")


def show_jobs(results: Mapping[str, Any]) -> None:
    """Print a line per job and size, and how the time grows."""
    console = Console(highlight=False, markup=False)
    table = Table(title="Batch jobs", title_justify="left", box=box.SIMPLE_HEAD)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("job", "more") else "right")
    for size in results["results"]:
        for job, found in size.items():
            if job != "rows":
                table.add_row(
                    job, f"{size['rows']:,}", f"{found['seconds']:.1f}", f"{found['rowsPerS']:,.0f}", *_more(found)
                )
    console.print(table)
    growth = ", ".join(f"{job} {factor:.2f}" for job, factor in results["growth"].items())
    console.print(f"Seconds per row at the large size by the small one (1 is linear): {growth}", soft_wrap=True)


def _more(found: Mapping[str, Any]) -> tuple[str, str]:
    who = "exporter" if "exporterMbPeak" in found else "worker"
    before, peak = found.get(f"{who}MbBefore"), found.get(f"{who}MbPeak")
    memory = "" if before is None or peak is None else f"{before:.0f} → {peak:.0f}"
    details = {"sqlSeconds": "s in SQL", "summaryMs": "ms for a summary", "megabytes": "MB of files"}
    return memory, ", ".join(f"{found[name]:g} {text}" for name, text in details.items() if name in found)
