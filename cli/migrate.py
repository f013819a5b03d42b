"""`modelpilot migrate`: the schema of this version, and what a new installation needs to answer its first request."""

import asyncio
from collections.abc import Iterator

import typer

from cli.admin_key import ensure_admin_key
from infra.catalogue.seed import seed_models
from infra.db.engine import Database
from infra.db.management.seed import ensure_demo_router, seed_catalogue
from infra.db.migrate import revision, upgrade
from infra.local.data_dir import DataDir
from infra.settings import ConfigurationError, Settings, load_settings


def command() -> None:
    """Create or update the database schema, the shared catalogue, the admin key and the router `demo`.

    Safe to repeat, and to run in many processes at once. Needs MODELPILOT_DATABASE_URL. Exit codes: 0 done, 1 the
    database failed, 2 wrong configuration.
    """
    settings = load_settings()
    if settings.database_url is None:
        advice = "`modelpilot up` starts an embedded database and migrates it"
        raise ConfigurationError([f"MODELPILOT_DATABASE_URL: is not set; {advice}"])
    DataDir(settings.data_dir).require()  # the admin key will be written there
    for line in migrate(settings, settings.database_url):
        typer.echo(line)
    for line in asyncio.run(_seed(settings, settings.database_url)):
        typer.echo(line)


# Workflows of this schema were run in another way, which the class of today cannot follow.
_JOINING = "0008"


def migrate(settings: Settings, database_url: str) -> Iterator[str]:
    """Bring the schema up to date; what was done, a line each.

    An upgrade that ends workflows needs Temporal, and changes nothing without it. Raises DependencyUnavailable.
    """
    found = revision(database_url)
    if found != _JOINING:
        upgrade(database_url)
    else:
        from cli import old_workflows  # not for every start: it takes a second

        left = asyncio.run(old_workflows.left_open(settings))
        upgrade(database_url)
        recorded = asyncio.run(old_workflows.end(settings, database_url, left))
        yield f"workflows of the version before: {len(left)} ended, {recorded} of their requests recorded as failed"
    yield "schema: created" if found is None else "schema: up to date"


async def _seed(settings: Settings, database_url: str) -> list[str]:
    """What was done, a line each."""
    async with Database(database_url) as database:
        changed = await seed_catalogue(database, seed_models())
        admin_key = await ensure_admin_key(database, DataDir(settings.data_dir).admin_key)
        made = await ensure_demo_router(database)
    return [
        f"catalogue: {changed} models added or changed" if changed else "catalogue: unchanged",
        f"admin key: {admin_key}",
        "router demo: created" if made else "router demo: unchanged",
    ]
