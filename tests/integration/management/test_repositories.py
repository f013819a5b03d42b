"""Repositories of the management API: routers, paging, audit, announcements, and tenants apart."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from infra.db.engine import Database
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.changes import PostgresAuditRepository, PostgresHealthResets
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import seed_catalogue
from infra.db.routing.notifications import ConfigurationListener
from modelpilot.errors import Conflict, InvalidRequest, NotFound
from modelpilot.management.resources import ApiKeyChange, HealthScope, NewApiKey
from tests.support.samples import CANARY, keyring, sample_model, sample_provider, sample_router


async def test_router_life_cycle(database: Database) -> None:
    """Create, replace, read, delete; the version grows with the body only, and never starts again."""
    routers = PostgresRouterRepository(database)
    first = await routers.create("alice", sample_router(), "key_1")
    assert (first.version, first.body) == (1, sample_router())
    with pytest.raises(Conflict):
        await routers.create("alice", sample_router(), "key_1")
    assert (await routers.put("alice", sample_router(), "key_1")).version == 1
    second = await routers.put("alice", sample_router(name="New"), "key_1")
    assert second.version == 2
    assert second.updated_at > second.created_at == first.created_at
    assert await routers.get("alice", "support") == second
    await routers.delete("alice", "support", "key_1")
    with pytest.raises(NotFound):
        await routers.get("alice", "support")
    with pytest.raises(NotFound):
        await routers.delete("alice", "support", "key_1")
    again = await routers.put("alice", sample_router(), "key_1")
    assert again.version == 3
    assert [stored.version for stored in await routers.versions("alice", "support")] == [3, 2, 1]
    assert [stored.body.name for stored in await routers.versions("alice", "support")] == ["", "New", ""]


async def test_concurrent_puts_make_consecutive_versions(database: Database) -> None:
    """Replicas that change one router at once lose no version."""
    routers = PostgresRouterRepository(database)
    await asyncio.gather(*(routers.put("alice", sample_router(name=str(number)), "k") for number in range(20)))
    assert [stored.version for stored in await routers.versions("alice", "support")] == list(range(20, 0, -1))


async def test_lists_are_paged_newest_first(database: Database) -> None:
    """Pages join without gap or repeat, and stay right while rows are added."""
    routers = PostgresRouterRepository(database)
    for number in range(5):
        await routers.create("alice", sample_router(f"r{number}"), "k")
    seen: list[str] = []
    page = await routers.list("alice", None, 2)
    await routers.create("alice", sample_router("late"), "k")
    while True:
        seen += [stored.body.id for stored in page.items]
        if page.next_cursor is None:
            break
        page = await routers.list("alice", page.next_cursor, 2)
    assert seen == ["r4", "r3", "r2", "r1", "r0"]


@pytest.mark.parametrize("cursor", ["", "x", "é", "W10", "WzEsMl0", "WyJhIiwiYiJd", "bnVsbA", "\ud800"])
async def test_a_foreign_cursor_is_refused(database: Database, cursor: str) -> None:
    """A made-up cursor is the caller's mistake, named as such."""
    repositories: list[Any] = [
        PostgresRouterRepository(database),
        PostgresModelRepository(database),
        PostgresProviderRepository(database, keyring()),
        PostgresApiKeyRepository(database),
        PostgresAuditRepository(database),
    ]
    for repository in repositories:
        with pytest.raises(InvalidRequest) as refused:
            await repository.list("alice", cursor, 10)
        assert refused.value.param == "cursor"


async def test_every_change_is_audited(database: Database) -> None:
    """Who, what, before and after; newest first; in pages."""
    routers, keys = PostgresRouterRepository(database), PostgresApiKeyRepository(database)
    await routers.create("alice", sample_router(), "key_1")
    await routers.put("alice", sample_router(name="New"), "key_2")
    await routers.put("alice", sample_router(name="New"), "key_2")  # changes nothing
    await routers.delete("alice", "support", "key_1")
    await keys.create("alice", NewApiKey("ci"))
    audit = PostgresAuditRepository(database)
    page = await audit.list("alice", None, 3)
    rest = await audit.list("alice", page.next_cursor, 3)
    entries = [*page.items, *rest.items]
    assert [(e.action, e.kind, e.actor) for e in entries] == [
        ("create", "api_key", "alice"),
        ("delete", "router", "key_1"),
        ("update", "router", "key_2"),
        ("create", "router", "key_1"),
    ]
    assert entries[2].before == sample_router().to_wire()
    assert entries[2].after == sample_router(name="New").to_wire()
    assert rest.next_cursor is None


async def test_a_failed_change_leaves_nothing(database: Database) -> None:
    """A refused creation is neither stored nor audited."""
    routers = PostgresRouterRepository(database)
    await routers.create("alice", sample_router(), "k")
    with pytest.raises(Conflict):
        await routers.create("alice", sample_router(name="Other"), "k")
    assert len((await PostgresAuditRepository(database).list("alice", None, 9)).items) == 1
    assert len(await routers.versions("alice", "support")) == 1


async def test_tenants_are_apart(database: Database) -> None:
    """For every method of every repository, another tenant's things do not exist, and survive."""
    routers, models = PostgresRouterRepository(database), PostgresModelRepository(database)
    providers, keys = PostgresProviderRepository(database, keyring()), PostgresApiKeyRepository(database)
    router = await routers.create("alice", sample_router(), "k")
    model = await models.create("alice", sample_model("own/m"), "k")
    provider = await providers.create("alice", sample_provider(api_key=SecretStr(CANARY)), "k")
    key, secret = await keys.create("alice", NewApiKey())
    attacks: list[Any] = [
        routers.get("bob", "support"),
        routers.versions("bob", "support"),
        routers.delete("bob", "support", "k"),
        models.get("bob", "own/m"),
        models.delete("bob", "own/m", "k"),
        providers.get("bob", "openai"),
        providers.delete("bob", "openai", "k"),
        keys.get("bob", key.id),
        keys.update("bob", key.id, ApiKeyChange(active=False)),
        keys.rotate("bob", key.id, 0.0),
        keys.delete("bob", key.id),
    ]
    for attack in attacks:
        with pytest.raises(NotFound):
            await attack
    lists: list[Any] = [routers, models, providers, keys, PostgresAuditRepository(database)]
    for repository in lists:
        assert (await repository.list("bob", None, 9)).items == ()
        assert len((await repository.list("alice", None, 9)).items) >= 1
    assert (await routers.put("bob", sample_router(name="Bob's"), "k")).version == 1
    await models.put("bob", sample_model("own/m", quality_score=0.1), "k")
    assert not (await providers.put("bob", sample_provider(), "k")).body.has_key
    assert await routers.get("alice", "support") == router
    assert await models.get("alice", "own/m") == model
    assert await providers.get("alice", "openai") == provider
    assert replace(await keys.get("alice", key.id), last_used_at=None) == key
    assert await keys.authenticate(secret) is not None
    await keys.close()


async def test_ids_that_cannot_be_stored_do_not_exist(database: Database) -> None:
    """NUL and lone surrogates in a path are a clear error of the caller's, not of ours."""
    for bad in ("a\0b", "\ud800"):
        with pytest.raises((NotFound, InvalidRequest)):
            await PostgresRouterRepository(database).get("alice", bad)


async def test_changes_are_announced(database: Database) -> None:
    """Every process hears of every kind of change; after a lost connection it hears that it may have missed some."""
    heard: asyncio.Queue[tuple[str | None, str, str]] = asyncio.Queue()

    def hear(kind: str | None, user_id: str = "", subject: str = "") -> None:
        heard.put_nowait((kind, user_id, subject))

    listener = ConfigurationListener(database.url, hear)
    await listener.start()
    await listener.wait_until_listening()
    await PostgresRouterRepository(database).put("alice", sample_router(), "k")
    assert await heard.get() == ("router", "alice", "support")
    await PostgresModelRepository(database).put("alice", sample_model("vendor/a:b"), "k")
    assert await heard.get() == ("model", "alice", "vendor/a:b")
    await seed_catalogue(database, [sample_model()])
    assert await heard.get() == ("model", "", "*")
    await PostgresHealthResets(database).announce("alice", HealthScope("openai"), "k")
    assert await heard.get() == ("health", "alice", "openai *")
    (entry,) = (await PostgresAuditRepository(database).list("alice", None, 1)).items
    assert (entry.actor, entry.action, entry.kind, entry.subject) == ("k", "reset", "health", "openai *")
    await database.fetch_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    )
    assert await heard.get() == (None, "", "")
    await PostgresRouterRepository(database).delete("alice", "support", "k")
    assert await heard.get() == ("router", "alice", "support")
    await listener.stop()
