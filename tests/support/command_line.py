"""The command line, run in this process."""

from typing import Any

from typer.testing import CliRunner, Result

from cli.main import app


def modelpilot(*arguments: str, **options: Any) -> Result:
    """`modelpilot arguments…`; its output and exit code."""
    return CliRunner().invoke(app, list(arguments), **options)
