"""`modelpilot keys`: API keys. The secret of a key is shown once, when it is made."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli.client import connect, segment
from cli.output import AsJson, command_group, print_json, show_result, table

app = command_group("Manage API keys.")

_COLUMNS = ("id", "name", "prefix", "scopes", "allowedRouters", "active", "expiresAt", "lastUsedAt")
KeyId = Annotated[str, typer.Argument(help="The key's id (key_…), not its secret.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="route, analytics or admin; repeat for more.")] = None,
    router: Annotated[
        list[str] | None, typer.Option(help="A router it may use; repeat for more. Default: all.")
    ] = None,
    expires_days: Annotated[float | None, typer.Option(help="Days until it expires. Default: never.", min=0)] = None,
    user: Annotated[str | None, typer.Option(help="The user it belongs to (operators only). Default: you.")] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="A new admin key straight in the database, for when the last one is lost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, this once. Default scope: route."""
    if admin:
        _shown(asyncio.run(_admin_key(name or "admin")), as_json)
        return
    body: dict[str, Any] = {"name": name, "scopes": scope or ["route"], "allowedRouters": router or None}
    if expires_days is not None:
        body["expiresAt"] = (datetime.now(UTC) + timedelta(days=expires_days)).isoformat()
    if user is not None:
        body["userId"] = user
    _shown(connect().call("POST", "/api/keys", body), as_json)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """All keys, newest first, without their secrets."""
    items = list(connect().items("/api/keys"))
    show_result(items, as_json, lambda: [table(_COLUMNS, ([_cell(item, name) for name in _COLUMNS] for item in items))])


@app.command("show")
def show_key(key_id: KeyId, as_json: AsJson = False) -> None:
    """One key, without its secret."""
    item = connect().call("GET", f"/api/keys/{segment(key_id)}")
    show_result(item, as_json, lambda: [table(("field", "value"), item.items())])


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Make a key useless at once. It stays in the list."""
    item = connect().call("PUT", f"/api/keys/{segment(key_id)}", {"active": False})
    if as_json:
        print_json(item)
    else:
        typer.echo(f"{key_id} is revoked")


@app.command()
def rotate(
    key_id: KeyId,
    overlap_seconds: Annotated[float, typer.Option(help="How long the old key goes on working.", min=0)] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Make a new key with the same rights, print its secret, and let the old one expire after the overlap."""
    body = {"overlapSeconds": overlap_seconds}
    _shown(connect().call("POST", f"/api/keys/{segment(key_id)}/rotate", body), as_json)


def _cell(item: dict[str, Any], name: str) -> Any:
    return "all" if name == "allowedRouters" and item[name] is None else item[name]


def _shown(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    typer.echo(made["key"])
    where = f", and is in {made['file']}" if made.get("file") else "; it will not be shown again"
    typer.echo(f"This is {made['id']}{where}.", err=True)


async def _admin_key(name: str) -> dict[str, Any]:
    from cli.admin_key import new_admin_key
    from infra.settings import load_settings

    return await new_admin_key(load_settings(), name)
