"""How commands show data (tables for people, JSON for programs) and refusals (one line and exit code 1)."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from cli.client import Refused, connect, fail, read_documents

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# `show` prints JSON in any case: it is what `apply` and `put` read.
JsonOnly = Annotated[bool, typer.Option("--json", help="It prints JSON in any case.")]

_WIDTH_OF_A_FILE = 200  # no terminal to fit into: nothing may be cut off


def print_json(value: Any) -> None:
    """Indented JSON on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Table:
    """A table; numbers are right-aligned, None is a dash."""
    cells = [list(row) for row in rows]
    built = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in cells)
        built.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        built.add_row(*(_cell(value) for value in row))
    return built


def show(*renderables: Any, width: int | None = None) -> None:
    """Print tables and lines, without reading markup in what others have named, and none wider than `width`."""
    console(width).print(*renderables, sep="\n", markup=False, highlight=False)


def show_result(result: Any, as_json: bool, view: Callable[[], Iterable[Any]], *, width: int | None = None) -> None:
    """Print a command's result: as JSON for programs, else the tables and lines of `view`."""
    if as_json:
        print_json(result)
    else:
        show(*view(), width=width)


def put_documents(kind: str, path: Callable[[str], str], file: str, *, as_json: bool) -> None:
    """Create or replace what the documents of a file describe, each at the path of its id, and say so of each."""
    client, stored = connect(), []
    for body in read_documents(file):
        stored.append(client.call("PUT", path(body["id"]), body))
        if not as_json:
            typer.echo(f"{kind} {body['id']}: stored")  # at once: a later one may be refused
    if as_json:
        print_json(stored)


def console(most: int | None = None) -> Console:
    """Standard output, as wide as it is, or as `most` where that is less."""
    width = Console().width if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    return Console(width=min(width, most or width))


def usd(amount: float | None) -> str:
    """Dollars, with as many digits as small amounts need."""
    if amount is None:
        return "unknown"
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:.6f}"


def per_million(price_usd_per_token: float | None) -> str:
    """A price per token as people read it: USD per million tokens."""
    return "unknown" if price_usd_per_token is None else f"{price_usd_per_token * 1e6:.10g}"


def _cell(value: Any) -> Any:
    if value is None:
        return Text("–")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list | tuple | set | frozenset):
        return Text(", ".join(map(str, value)))
    return Text(f"{value:g}" if isinstance(value, float) else str(value))


class RefusalsAreMessages(TyperGroup):
    """A group of subcommands whose `Refused` becomes one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except Refused as refused:
            fail(refused.message)


def command_group(help_text: str) -> typer.Typer:
    """A Typer application for one group."""
    return typer.Typer(
        help=f"{help_text} Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 not reachable.",
        cls=RefusalsAreMessages,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=False,
    )
