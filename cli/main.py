"""Entry point of `modelpilot`: finds the command, and turns known errors into one message and an exit code.

Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 3 gateway not reachable, 130 interrupted.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130

# The help lines are repeated here so that `modelpilot --help` imports no command.
COMMANDS = {
    "up": "Start the whole platform on this machine.",
    "gateway": "Run the HTTP gateway.",
    "closer": "Run the closer, which gives every request its workflow.",
    "worker": "Run the worker for requests that last and for maintenance.",
    "dashboard": "Run the analytics site.",
    "simulator": "Run the simulated provider.",
    "migrate": "Create or update the database schema.",
    "doctor": "Check the configuration and every service.",
    "demo": "Send sample traffic through the demo router.",
    "keys": "Manage API keys.",
    "users": "Manage the users of the analytics site.",
    "routers": "Show and change routers.",
    "models": "Show and change the model catalogue.",
    "providers": "Show and change providers and their keys.",
    "feedback": "Rate an answer.",
    "requests": "Look at a request whose workflow is not closed, and end it.",
    "jobs": "Run batch work now, and see how far it is.",
    "explain": "Show the decision for a prompt without calling a provider.",
    "bench": "Run the benchmarks.",
}
# Inherited by every command below.
HELP = {"help_option_names": ["-h", "--help"]}
_MOST_SAID = 300  # characters of an unexpected error
_PROCESSES = frozenset({"gateway", "closer", "worker", "dashboard"})


class LazyGroup(TyperGroup):
    """Lists placeholders, and imports the module of a command when that command is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The real command in place of the placeholder that the help shows."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, (load_command(name) if name in COMMANDS else command), rest


app = typer.Typer(
    name="modelpilot",
    cls=LazyGroup,
    help="ModelPilot: an LLM router that a team runs itself.",
    no_args_is_help=True,
    context_settings=HELP,
    pretty_exceptions_enable=False,  # their tracebacks print local variables: keys and prompts
    rich_markup_mode=None,
)


def load_command(name: str) -> Any:
    """The command in `processes.<name>` or `cli.<name>`: its Typer `app`, or its function `command`."""
    module = _import(f"processes.{name}" if name in _PROCESSES else f"cli.{name}")
    loaded: typer.Typer | None = getattr(module, "app", None)
    if loaded is None:
        function: Callable[..., Any] = module.command
        loaded = typer.Typer(
            context_settings=HELP, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
        )
        loaded.command(name, help=None if function.__doc__ else COMMANDS[name])(function)
    return typer.main.get_command(loaded)


def _import(module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        command = module_name.rpartition(".")[2]
        typer.echo(f"modelpilot: the command `{command}` is not part of this installation", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _placeholder() -> None:
    """Never called: LazyGroup replaces it."""


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_placeholder)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"modelpilot {version('modelpilot')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which one this is.")
    ] = False,
) -> None:
    """ModelPilot: an LLM router that a team runs itself."""


def main() -> NoReturn:
    """Run the command line and exit."""
    # Before numpy is imported, which reads it: products of a request's small matrices gain nothing from threads, which
    # fight for the cores with everything else (ADR 3).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last one who can tell a person of it
        _unexpected(error)
    sys.exit(0)


def _run() -> None:
    from infra.local.errors import StackError
    from infra.settings import ConfigurationError
    from modelpilot.errors import ModelPilotError

    # Its pools tell of every attempt to connect; what a command could not do, it says itself.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    _tell_of_settings()
    try:
        app(prog_name="modelpilot")
    except ConfigurationError as error:
        _fail(EXIT_CONFIGURATION, *error.problems)
    except (StackError, ModelPilotError) as error:
        _fail(EXIT_FAILED, str(error))
    except OSError as error:
        _fail(EXIT_FAILED, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))


def _tell_of_settings() -> None:
    # Said as everything else that this program says, and whatever a process does with its log.
    teller = logging.StreamHandler()
    teller.setFormatter(logging.Formatter("modelpilot: %(message)s"))
    logger = logging.getLogger("modelpilot.settings")
    logger.handlers, logger.propagate = [teller], False


def _unexpected(error: Exception) -> NoReturn:
    """A defect of ours: what it is, and where its traceback lies. That is for who mends it, not for who meets it."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="modelpilot-", suffix=".txt", encoding="utf-8", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    said = " ".join(str(error).split())[:_MOST_SAID]
    _fail(
        EXIT_FAILED, f"unexpected {type(error).__name__}: {said}", f"that is a defect; its details are in {file.name}"
    )


def _fail(code: int, *messages: str) -> NoReturn:
    for message in messages:
        typer.echo(f"modelpilot: {message}", err=True)
    sys.exit(code)
