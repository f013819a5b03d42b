"""How benchmarks talk to people: what they are doing, and results as tables with a few lines below."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

# Hears what a benchmark does next.
Progress = Callable[[str], None]
Row = Sequence[str]


def print_report(*parts: Table | str, least_width: int = 0) -> None:
    """Print tables and lines on standard output. Narrower than `least_width`, figures would be broken across lines."""
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, least_width)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def table(title: str | None, columns: Sequence[str], *sections: Iterable[Row], texts: Collection[str] = ()) -> Table:
    """Rows below each other, with a gap between sections. Columns are figures, but for those named in `texts`."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        made.add_column(column, justify="left" if column in texts else "right", overflow="fold")
    for section in sections:
        for row in section:
            made.add_row(*row)
        made.add_section()
    return made


def conditions(results: Mapping[str, Any]) -> str:
    """What the machine was like, of results that begin with `machine.about`."""
    machine = results["machine"]
    load = " ".join(f"{value:.2f}" for value in machine["loadAverageBefore"])
    return f"{machine['cpusUsable']} CPUs, load before {load}"
