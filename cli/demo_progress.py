"""How `modelpilot demo` shows that it goes on: a bar on a terminal, a few lines elsewhere, nothing beside JSON."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[], None]
_LINES = 10


@contextmanager
def shown(total: int, *, quiet: bool, what: str = "requests") -> Iterator[Advance]:
    """Call the result once for every finished request (or `what` else is counted)."""
    if quiet:
        yield lambda: None
    elif sys.stdout.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
    else:
        yield _lines(total, what)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console())


def _lines(total: int, what: str) -> Advance:
    done, step = 0, max(total // _LINES, 1)

    def advance() -> None:
        nonlocal done
        done += 1
        if done % step == 0 or done == total:
            typer.echo(f"{done} of {total} {what}")

    return advance
