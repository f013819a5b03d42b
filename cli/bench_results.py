"""How every benchmark hands over its results."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson
import typer

T = TypeVar("T")


def deliver(results: T, out: Path | None, as_json: bool, show: Callable[[T], None]) -> None:
    """Write the results to `out` as JSON, where wanted, and print them: as JSON, or as `show` does. Raises OSError."""
    encoded = orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(encoded)
    if as_json:
        typer.echo(encoded, nl=False)
    else:
        show(results)
