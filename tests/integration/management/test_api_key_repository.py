"""API keys: made, recognized, rotated, revoked; what a first start makes."""

import asyncio
import time

import pytest

from infra.db.engine import Database
from infra.db.management.api_keys import PostgresApiKeyRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import demo_router, ensure_demo_router, ensure_operator
from modelpilot.errors import Conflict, InvalidRequest, NotFound
from modelpilot.management.resources import ALL_SCOPES, ApiKeyChange, NewApiKey
from tests.support.samples import table_text


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
    assert not (await keys.update("alice", stored.id, ApiKeyChange(active=False))).active
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


async def test_ids_of_owners(database: Database) -> None:
    """Ids of users that would break workflow ids or notifications are refused."""
    for bad in ("", "a/b", "a:b", "\0", "x" * 65):
        with pytest.raises(InvalidRequest):
            await PostgresApiKeyRepository(database).create(bad, NewApiKey())


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
    assert (await routers.get("admin", "demo")).body == demo_router()
    await routers.delete("admin", "demo", "k")
    assert not await ensure_demo_router(database), "a deleted demo router stays deleted"
    await keys.close()
