"""The results of `bench dashboard` for people."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def show_dashboard(results: Mapping[str, Any]) -> None:
    """Print a line per page and callback; the goal is that of the slowest."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 150)
    table = Table(title="Analytics site, server time", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("page", "callback", "p50 ms", "max ms", "kB", "goal ms", ""):
        table.add_column(column, justify="left" if column in ("page", "callback", "") else "right")
    for page in results["results"]:
        named = page["page"]
        for name, found in page["callbacks"].items():
            verdict = "ok" if found["maxMs"] <= page["goalMs"] else "over"
            figures = (f"{found['p50Ms']:,.0f}", f"{found['maxMs']:,.0f}", f"{found['kilobytes']:,.0f}")
            table.add_row(named, name, *figures, f"{page['goalMs']:,.0f}", verdict)
            named = ""
    console.print(table)
    options = results["options"]
    kept = sum(page["ok"] for page in results["results"])
    said = f"{options['rows']:,} requests over {options['days']:g} days: {kept} of {len(results['results'])} in time"
    console.print(said, soft_wrap=True)
