"""What every group of management commands has in common: subcommands, and a refusal as one line and exit code 1."""

from typing import Any

import typer
from typer.core import TyperGroup

from cli.client import Refused, fail


class RefusalsAreMessages(TyperGroup):
    """Turns `Refused` into its message."""

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
