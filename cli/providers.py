"""`modelpilot providers`: where models are called, and with which keys.

A key never is an argument: those can be read in the shell's history and in the list of processes."""

import sys
from typing import Annotated, get_args

import typer

from cli.client import File, connect, segment
from cli.output import AsJson, JsonOnly, command_group, print_json, put_documents, show_result, table
from infra.settings import ConfigurationError, read_variables
from modelpilot.providers.kinds import ProviderKind

app = command_group("Show and change providers: where models are called, and with which keys.")

ProviderId = Annotated[str, typer.Argument(help="The provider's id, such as groq: models name it.")]
_COLUMNS = ("id", "kind", "baseUrl", "hasKey", "keyCount", "updatedAt")
_KINDS = get_args(ProviderKind)


@app.command("list")
def list_providers(as_json: AsJson = False) -> None:
    """Your providers, newest first, without their keys. Those whose keys are in the gateway's environment are not
    listed; `modelpilot models list --available` shows what can be called."""
    items = list(connect().items("/api/providers"))
    show_result(items, as_json, lambda: [table(_COLUMNS, ([item[name] for name in _COLUMNS] for item in items))])


@app.command("show")
def show_provider(provider_id: ProviderId, _: JsonOnly = True) -> None:
    """One provider without its keys, as JSON that `apply` understands: what has no key keeps those that are stored."""
    print_json(connect().call("GET", _path(provider_id)))


@app.command()
def put(
    provider_id: ProviderId,
    kind: Annotated[str, typer.Option(help=f"What it speaks: {', '.join(_KINDS)}.")],
    base_url: Annotated[str | None, typer.Option(help="Its address. Default: the public one of its kind.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="The variable with its key, in the environment or in .env.")
    ] = None,
    api_key_stdin: Annotated[
        bool, typer.Option("--api-key-stdin", help="Read its key from standard input, or ask for it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create or replace a provider. Without a key those that are stored stay."""
    if kind not in _KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(_KINDS)}", param_hint="--kind")
    if api_key_env is not None and api_key_stdin:
        raise typer.BadParameter("--api-key-env or --api-key-stdin, not both")
    client = connect()
    given = {"kind": kind, "baseUrl": base_url, "apiKey": _key(api_key_env, from_stdin=api_key_stdin)}
    body = {name: value for name, value in given.items() if value is not None}
    stored = client.call("PUT", _path(provider_id), body)
    if as_json:
        print_json(stored)
    else:
        typer.echo(f"provider {provider_id}: stored, {'with a' if stored['hasKey'] else 'without a'} key")


@app.command()
def apply(file: File, as_json: AsJson = False) -> None:
    """Create or replace the providers of a file. Without a key those that are stored stay, so it needs to hold none."""
    put_documents("provider", _path, file, as_json=as_json)


@app.command()
def delete(provider_id: ProviderId) -> None:
    """Delete a provider and its keys."""
    connect().call("DELETE", _path(provider_id))
    typer.echo(f"provider {provider_id}: deleted")


def _key(variable: str | None, *, from_stdin: bool) -> str | None:
    """The key in clear; None where none is given. Raises ConfigurationError where it is not where it should be."""
    if variable is not None:
        where, found = variable, read_variables().get(variable, "")
    elif from_stdin:
        where, found = "standard input", _read_key()
    else:
        return None
    if not found.strip():
        raise ConfigurationError([f"{where}: holds no API key"])
    return found.strip()


def _read_key() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    import getpass

    return getpass.getpass("API key: ")


def _path(provider_id: str) -> str:
    return f"/api/providers/{segment(provider_id)}"
