"""`modelpilot users`: who may log in to the analytics site, straight in the database: that works without a gateway.
`erase` deletes what is stored of end users and tenants, through the gateway."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cli.client import connect, segment
from cli.jobs import Wait, report
from cli.output import AsJson, command_group, show_result, table
from infra.crypto.secrets import Argon2Hasher
from infra.db.engine import SyncPool
from infra.db.management.site_users import PostgresSiteUserRepository
from infra.local.environment import join_running_stack
from infra.settings import load_settings
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.management.site import SiteUser, check_password, normalized_username

app = command_group("Manage the users of the analytics site.")

ACTOR = "command line"
_COLUMNS = ("username", "user_id", "role", "active", "created_at", "last_login_at")
Username = Annotated[str, typer.Argument(help="The name to log in with.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(
    username: Username,
    user: Annotated[str | None, typer.Option(help="The user (tenant) whose requests it sees.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It sees everybody's requests.")] = False,
    password_stdin: FromStdin = False,
) -> None:
    """Make a user; asks for the password. From the first user on, the site asks everybody to log in."""
    if user is None and not admin:
        raise typer.BadParameter("say whose requests it sees (--user), or that it sees everybody's (--admin)")
    name = normalized_username(username)
    new = SiteUser(name, user or OPERATOR_USER, "admin" if admin else "viewer", active=True, created_at=0.0)
    hashed = Argon2Hasher().hash(_new_password(password_stdin))
    with _users() as users:
        users.add(new, hashed, ACTOR)
    typer.echo(f"{name} may log in, and sees {'everybody' if admin else new.user_id}")


@app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """All users. Times are UTC."""
    with _users() as users:
        items = [asdict(one) for one in users.list()]
    show_result(items, as_json, lambda: [table(_COLUMNS, ([_cell(item, name) for name in _COLUMNS] for item in items))])


@app.command()
def passwd(username: Username, password_stdin: FromStdin = False) -> None:
    """Give a user another password, and end its sessions."""
    name = normalized_username(username)
    hashed = Argon2Hasher().hash(_new_password(password_stdin))
    with _users() as users:
        users.set_password(name, hashed, ACTOR)
    typer.echo(f"{name} has a new password")


@app.command()
def disable(username: Username) -> None:
    """Keep a user from logging in, and end its sessions."""
    _activate(username, active=False)


@app.command()
def enable(username: Username) -> None:
    """Let a disabled user log in again."""
    _activate(username, active=True)


@app.command()
def delete(username: Username) -> None:
    """Remove a user and its sessions. Its tenant and that one's data stay: `erase --tenant` deletes these."""
    name = normalized_username(username)
    with _users() as users:
        users.delete(name, ACTOR)
    typer.echo(f"{name} is deleted")


@app.command()
def erase(
    name: Annotated[str, typer.Argument(help="The `user` of requests; with --tenant, the id of a tenant.")],
    tenant: Annotated[bool, typer.Option("--tenant", help="A whole tenant, with its keys and configuration.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Erase all requests of an end user of yours, or a whole tenant, through the running gateway. What they cost
    stays, without any name."""
    gateway = connect()
    path = f"/api/users/{segment(name)}" + ("" if tenant else "/data")
    report(gateway, gateway.call("DELETE", path), wait=wait, as_json=as_json)


def _activate(username: str, *, active: bool) -> None:
    name = normalized_username(username)
    with _users() as users:
        users.set_active(name, active, ACTOR)
    typer.echo(f"{name} may log in again" if active else f"{name} is disabled")


@contextmanager
def _users() -> Iterator[PostgresSiteUserRepository]:
    settings = load_settings()
    url = settings.database_url or join_running_stack(settings).database_url
    with closing(SyncPool(str(url), read_only=False, wait_s=5.0)) as pool:
        yield PostgresSiteUserRepository(pool)


def _new_password(from_stdin: bool) -> str:
    """Raises InvalidRequest. Never an argument: those can be read in the list of processes."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise typer.BadParameter("the two passwords differ")
    check_password(password)
    return password


def _cell(item: dict[str, Any], name: str) -> Any:
    value = item[name]
    if name.endswith("_at") and value is not None:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return value
