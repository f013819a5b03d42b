"""Repositories of the management API: CRUD, versions, paging, audit, announcements, and tenants apart."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from infra.crypto.keyring import DecryptionFailed, Keyring, generate_key
from infra.db.configuration import PostgresConfiguration
from infra.db.engine import Database
from infra.db.notifications import ConfigurationListener
from infra.db.repositories.api_keys import PostgresApiKeyRepository
from infra.db.repositories.audit import PostgresAuditRepository
from infra.db.repositories.models import PostgresModelRepository
from infra.db.repositories.providers import PostgresProviderRepository
from infra.db.repositories.routers import PostgresRouterRepository
from infra.db.repositories.users import PostgresUserRepository
from infra.db.seed import demo_router, ensure_demo_router, ensure_operator, seed_catalogue
from modelpilot.catalogue import ModelSpec, ProviderSpec
from modelpilot.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from modelpilot.management import ALL_SCOPES, ApiKeyChange, NewApiKey
from modelpilot.router import Router
from tests.support.database_samples import keyring, table_text

CANARY = "sk-canary-77"


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    async with Database(migrated_url) as opened:
        yield opened


def _router(router_id: str = "support", **changes: Any) -> Router:
    return Router(id=router_id, available_models=["sim/small"], **changes)


def _model(model_id: str = "sim/small", **changes: Any) -> ModelSpec:
    return ModelSpec(id=model_id, provider="simulator", provider_model="small", **changes)


def _provider(provider_id: str = "openai", **changes: Any) -> ProviderSpec:
    return ProviderSpec(id=provider_id, kind="openai", **changes)


async def test_router_life_cycle(database: Database) -> None:
    """Create, replace, read, delete; the version grows with the body only, and never starts again."""
    routers = PostgresRouterRepository(database)
    first = await routers.create("alice", _router(), "key_1")
    assert (first.version, first.router) == (1, _router())
    with pytest.raises(Conflict):
        await routers.create("alice", _router(), "key_1")
    assert (await routers.put("alice", _router(), "key_1")).version == 1
    second = await routers.put("alice", _router(name="New"), "key_1")
    assert second.version == 2
    assert second.updated_at > second.created_at == first.created_at
    assert await routers.get("alice", "support") == second
    await routers.delete("alice", "support", "key_1")
    with pytest.raises(NotFound):
        await routers.get("alice", "support")
    with pytest.raises(NotFound):
        await routers.delete("alice", "support", "key_1")
    again = await routers.put("alice", _router(), "key_1")
    assert again.version == 3
    assert [stored.version for stored in await routers.versions("alice", "support")] == [3, 2, 1]
    assert [stored.router.name for stored in await routers.versions("alice", "support")] == ["", "New", ""]


async def test_concurrent_puts_make_consecutive_versions(database: Database) -> None:
    """Replicas that change one router at once lose no version."""
    routers = PostgresRouterRepository(database)
    await asyncio.gather(*(routers.put("alice", _router(name=str(number)), "k") for number in range(20)))
    assert [stored.version for stored in await routers.versions("alice", "support")] == list(range(20, 0, -1))


async def test_lists_are_paged_newest_first(database: Database) -> None:
    """Pages join without gap or repeat, and stay right while rows are added."""
    routers = PostgresRouterRepository(database)
    for number in range(5):
        await routers.create("alice", _router(f"r{number}"), "k")
    seen: list[str] = []
    page = await routers.list("alice", None, 2)
    await routers.create("alice", _router("late"), "k")
    while True:
        seen += [stored.router.id for stored in page.items]
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


async def test_models_over_the_shared_catalogue(database: Database) -> None:
    """Own models hide shared ones; shared ones are read-only; deleting an override shows the shared one again."""
    models = PostgresModelRepository(database)
    await seed_catalogue(database, [_model("sim/a"), _model("sim/b")])
    assert (await models.get("alice", "sim/a")).shared
    with pytest.raises(PermissionDenied):
        await models.delete("alice", "sim/a", "k")
    override = await models.put("alice", _model("sim/a", quality_score=0.9), "k")
    assert not override.shared
    assert (await models.get("alice", "sim/a")).spec.quality_score == 0.9
    assert (await models.get("bob", "sim/a")).spec.quality_score is None
    await models.create("alice", _model("sim/c"), "k")
    with pytest.raises(Conflict):
        await models.create("alice", _model("sim/c"), "k")
    page = await models.list("alice", None, 2)
    rest = await models.list("alice", page.next_cursor, 2)
    assert [(m.spec.id, m.shared) for m in (*page.items, *rest.items)] == [
        ("sim/a", False),
        ("sim/b", True),
        ("sim/c", False),
    ]
    assert rest.next_cursor is None
    await models.delete("alice", "sim/a", "k")
    assert (await models.get("alice", "sim/a")).shared
    with pytest.raises(NotFound):
        await models.delete("alice", "sim/none", "k")
    with pytest.raises(PermissionDenied):
        await models.put("", _model("sim/a"), "k")


async def test_seeding_is_repeatable(database: Database) -> None:
    """A restart changes nothing; a new release adds, changes and drops."""
    models = PostgresModelRepository(database)
    assert await seed_catalogue(database, [_model("sim/a"), _model("sim/b")]) == 2
    assert await seed_catalogue(database, [_model("sim/a"), _model("sim/b")]) == 0
    assert await seed_catalogue(database, [_model("sim/a", quality_score=0.5), _model("sim/c")]) == 3
    assert [m.spec.id for m in (await models.list("alice", None, 9)).items] == ["sim/a", "sim/c"]


async def test_provider_keys_go_in_and_never_out(database: Database, migrated_url: str) -> None:
    """A provider shows that it has a key; without a new one the stored one stays; nothing holds it in clear."""
    providers = PostgresProviderRepository(database, keyring())
    assert not (await providers.create("alice", _provider(), "k")).has_key
    with pytest.raises(Conflict):
        await providers.create("alice", _provider(), "k")
    assert (await providers.put("alice", _provider(api_key=SecretStr(CANARY)), "k")).has_key
    kept = await providers.put("alice", _provider(base_url="http://localhost:1/v1"), "k")
    assert kept.has_key
    assert await providers.get("alice", "openai") == kept
    assert (await providers.list("alice", None, 9)).items == (kept,)
    for table in ("providers", "audit_log"):
        assert CANARY not in table_text(migrated_url, table)
    await providers.delete("alice", "openai", "k")
    with pytest.raises(NotFound):
        await providers.get("alice", "openai")
    with pytest.raises(NotFound):
        await providers.delete("alice", "openai", "k")


async def test_several_keys_go_in_and_never_out(database: Database, migrated_url: str) -> None:
    """How many there are is shown; any new key replaces all of them, none keeps them; nothing holds one in clear."""
    providers = PostgresProviderRepository(database, keyring())
    many = [SecretStr(f"{CANARY}-{number}") for number in range(3)]
    made = await providers.create("alice", _provider(api_key=SecretStr(CANARY), api_keys=many), "k")
    assert (made.has_key, made.key_count) == (True, 4)
    assert (await providers.put("alice", _provider(base_url="http://localhost:1/v1"), "k")).key_count == 4
    assert CANARY not in repr(await providers.get("alice", "openai"))
    for table in ("providers", "audit_log"):
        assert CANARY not in table_text(migrated_url, table)
        assert CANARY.encode().hex() not in table_text(migrated_url, table)
    assert (await providers.put("alice", _provider(api_keys=many[:2]), "k")).key_count == 2
    assert (await providers.put("alice", _provider(api_key=SecretStr(CANARY)), "k")).key_count == 1


async def test_reencryption_moves_every_key(database: Database) -> None:
    """Also where only a further key is under an old one; all of them open afterwards, in their order."""
    old, new = generate_key(), generate_key()
    keys = [SecretStr(f"{CANARY}-{number}") for number in range(3)]
    await PostgresProviderRepository(database, Keyring([old])).create("alice", _provider(api_keys=keys), "k")
    after = PostgresProviderRepository(database, Keyring([new, old]))
    assert [await after.reencrypt(), await after.reencrypt()] == [1, 0]
    source = PostgresConfiguration(database, Keyring([new]), {})
    found = [(await source.endpoint("alice", "openai", index)).api_key for index in range(3)]
    assert found == [key.get_secret_value() for key in keys]
    await database.fetch_all("UPDATE providers SET further_keys_encrypted[1] = '\\x00'::bytea")
    with pytest.raises(DecryptionFailed):
        await after.reencrypt()


async def test_reencryption_goes_on_where_it_stopped(database: Database) -> None:
    """After a rotation every key moves under the newest one, in batches."""
    old, new = generate_key(), generate_key()
    before = PostgresProviderRepository(database, Keyring([old]))
    for number in range(3):
        await before.create("alice", _provider(f"p{number}", api_key=SecretStr(CANARY)), "k")
    after = PostgresProviderRepository(database, Keyring([new, old]))
    assert [await after.reencrypt(2), await after.reencrypt(2), await after.reencrypt(2)] == [2, 1, 0]
    assert await PostgresProviderRepository(database, Keyring([new])).reencrypt() == 0


async def test_api_key_life_cycle(database: Database) -> None:
    """Created, recognized, changed, revoked, deleted."""
    keys = PostgresApiKeyRepository(database)
    new = NewApiKey("ci", frozenset({"route", "analytics"}), frozenset({"support"}))
    stored, secret = await keys.create("alice", new)
    principal = await keys.authenticate(secret)
    assert principal is not None
    assert (principal.user_id, principal.api_key_id, principal.operator) == ("alice", stored.id, False)
    assert principal.scopes == {"route", "analytics"}
    assert principal.allowed_routers == frozenset({"support"})
    changed = await keys.update("alice", stored.id, ApiKeyChange(name="CI", allowed_routers=None))
    assert (changed.name, changed.allowed_routers, changed.active) == ("CI", None, True)
    assert not (await keys.revoke("alice", stored.id)).active
    assert await keys.authenticate(secret) is None
    assert (await keys.update("alice", stored.id, ApiKeyChange(active=True))).active
    assert await keys.authenticate(secret) is not None
    await keys.delete("alice", stored.id)
    assert await keys.authenticate(secret) is None
    with pytest.raises(NotFound):
        await keys.get("alice", stored.id)
    await keys.close()


async def test_expired_and_unknown_keys_are_refused(database: Database) -> None:
    """Expiry is by the database's clock; other secrets are nobody's."""
    keys = PostgresApiKeyRepository(database)
    _, expired = await keys.create("alice", NewApiKey(expires_at=time.time() - 60.0))
    _, valid = await keys.create("alice", NewApiKey(expires_at=time.time() + 3_600.0))
    assert await keys.authenticate(expired) is None
    assert await keys.authenticate(valid) is not None
    assert await keys.authenticate("mp_" + "0" * 64) is None
    await keys.close()


@pytest.mark.parametrize("secret", ["", "mp_'; DROP TABLE api_keys; --", "mp_" + "'" * 64, "mp_\0", "\ud800"])
async def test_a_malformed_secret_costs_no_query(secret: str) -> None:
    """Injections and garbage are refused before the database is asked (it is not even there)."""
    keys = PostgresApiKeyRepository(Database("postgresql://127.0.0.1:1/none"))
    assert await keys.authenticate(secret) is None


async def test_rotation_overlaps(database: Database) -> None:
    """Both keys work during the overlap; afterwards only the new one; an ended key cannot be rotated."""
    keys = PostgresApiKeyRepository(database)
    stored, old = await keys.create("alice", NewApiKey("ci", frozenset({"admin"})))
    successor, new = await keys.rotate("alice", stored.id, 3_600.0)
    assert (successor.rotated_from, successor.scopes, successor.name) == (stored.id, frozenset({"admin"}), "ci")
    assert await keys.authenticate(old) is not None
    assert await keys.authenticate(new) is not None
    _, newer = await keys.rotate("alice", successor.id, 0.0)
    assert await keys.authenticate(new) is None
    assert await keys.authenticate(newer) is not None
    with pytest.raises(Conflict):
        await keys.rotate("alice", successor.id, 0.0)
    await keys.close()


async def test_secrets_are_stored_as_hashes_only(database: Database, migrated_url: str) -> None:
    """Whoever reads the database cannot use a key."""
    keys = PostgresApiKeyRepository(database)
    stored, secret = await keys.create("alice", NewApiKey())
    _, rotated = await keys.rotate("alice", stored.id, 60.0)
    for table in ("api_keys", "audit_log"):
        dump = table_text(migrated_url, table)
        assert secret[12:] not in dump
        assert rotated[12:] not in dump


async def test_last_use_is_written_in_batches(database: Database) -> None:
    """A used key says when, without a write per request."""
    keys = PostgresApiKeyRepository(database)
    stored, secret = await keys.create("alice", NewApiKey())
    assert (await keys.get("alice", stored.id)).last_used_at is None
    await keys.authenticate(secret)
    keys.touch(stored.id)
    await keys.close()
    used_at = (await keys.get("alice", stored.id)).last_used_at
    assert used_at is not None
    assert abs(used_at - time.time()) < 60.0


async def test_users(database: Database) -> None:
    """Users are made once; ids that would break workflow ids or notifications are refused."""
    users = PostgresUserRepository(database)
    assert (await users.create("alice", "k", operator=True)).operator
    assert (await users.get("alice")).operator
    with pytest.raises(Conflict):
        await users.create("alice", "k")
    with pytest.raises(NotFound):
        await users.get("bob")
    for bad in ("", "a/b", "a:b", "\0", "x" * 65):
        with pytest.raises(InvalidRequest):
            await users.create(bad, "k")
    with pytest.raises(InvalidRequest):
        await PostgresApiKeyRepository(database).create("a/b", NewApiKey())


async def test_first_start(database: Database) -> None:
    """The operator's secret is shown once, also to processes that start together; the demo router is made once."""
    secrets = await asyncio.gather(*(ensure_operator(database) for _ in range(5)))
    (secret,) = [secret for secret in secrets if secret is not None]
    keys = PostgresApiKeyRepository(database)
    principal = await keys.authenticate(secret)
    assert principal is not None
    assert (principal.user_id, principal.operator, principal.scopes) == ("admin", True, frozenset(ALL_SCOPES))
    assert await ensure_operator(database) is None
    assert await ensure_demo_router(database)
    assert not await ensure_demo_router(database)
    routers = PostgresRouterRepository(database)
    assert (await routers.get("admin", "demo")).router == demo_router()
    await routers.delete("admin", "demo", "k")
    assert not await ensure_demo_router(database), "a deleted demo router stays deleted"
    await keys.close()


async def test_every_change_is_audited(database: Database) -> None:
    """Who, what, before and after; newest first; in pages."""
    routers, keys = PostgresRouterRepository(database), PostgresApiKeyRepository(database)
    await routers.create("alice", _router(), "key_1")
    await routers.put("alice", _router(name="New"), "key_2")
    await routers.put("alice", _router(name="New"), "key_2")  # changes nothing
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
    assert entries[2].before == _router().to_wire()
    assert entries[2].after == _router(name="New").to_wire()
    assert rest.next_cursor is None


async def test_a_failed_change_leaves_nothing(database: Database) -> None:
    """A refused creation is neither stored nor audited."""
    routers = PostgresRouterRepository(database)
    await routers.create("alice", _router(), "k")
    with pytest.raises(Conflict):
        await routers.create("alice", _router(name="Other"), "k")
    assert len((await PostgresAuditRepository(database).list("alice", None, 9)).items) == 1
    assert len(await routers.versions("alice", "support")) == 1


async def test_tenants_are_apart(database: Database) -> None:
    """For every method of every repository, another tenant's things do not exist, and survive."""
    routers, models = PostgresRouterRepository(database), PostgresModelRepository(database)
    providers, keys = PostgresProviderRepository(database, keyring()), PostgresApiKeyRepository(database)
    router = await routers.create("alice", _router(), "k")
    model = await models.create("alice", _model("own/m"), "k")
    provider = await providers.create("alice", _provider(api_key=SecretStr(CANARY)), "k")
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
        keys.revoke("bob", key.id),
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
    assert (await routers.put("bob", _router(name="Bob's"), "k")).version == 1
    await models.put("bob", _model("own/m", quality_score=0.1), "k")
    assert not (await providers.put("bob", _provider(), "k")).has_key
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
    await PostgresRouterRepository(database).put("alice", _router(), "k")
    assert await heard.get() == ("router", "alice", "support")
    await PostgresModelRepository(database).put("alice", _model("vendor/a:b"), "k")
    assert await heard.get() == ("model", "alice", "vendor/a:b")
    await seed_catalogue(database, [_model()])
    assert await heard.get() == ("model", "", "*")
    await database.fetch_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
    )
    assert await heard.get() == (None, "", "")
    await PostgresRouterRepository(database).delete("alice", "support", "k")
    assert await heard.get() == ("router", "alice", "support")
    await listener.stop()
