"""Models over the shared catalogue, and providers whose keys go in and never out."""

import pytest
from pydantic import SecretStr

from infra.crypto.keyring import DecryptionFailed, Keyring, generate_key
from infra.db.engine import Database
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.seed import seed_catalogue
from infra.db.routing.configuration import PostgresConfiguration
from modelpilot.errors import Conflict, NotFound, PermissionDenied
from modelpilot.management.resources import ModelFilter
from tests.support.samples import CANARY, keyring, sample_model, sample_provider, table_text


async def test_models_over_the_shared_catalogue(database: Database) -> None:
    """Own models hide shared ones; shared ones are read-only; deleting an override shows the shared one again."""
    models = PostgresModelRepository(database)
    await seed_catalogue(database, [sample_model("sim/a"), sample_model("sim/b")])
    assert (await models.get("alice", "sim/a")).shared
    with pytest.raises(PermissionDenied):
        await models.delete("alice", "sim/a", "k")
    override = await models.put("alice", sample_model("sim/a", quality_score=0.9), "k")
    assert not override.shared
    assert (await models.get("alice", "sim/a")).body.quality_score == 0.9
    assert (await models.get("bob", "sim/a")).body.quality_score is None
    await models.create("alice", sample_model("sim/c"), "k")
    with pytest.raises(Conflict):
        await models.create("alice", sample_model("sim/c"), "k")
    page = await models.list("alice", None, 2)
    rest = await models.list("alice", page.next_cursor, 2)
    assert [(m.body.id, m.shared) for m in (*page.items, *rest.items)] == [
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
        await models.put("", sample_model("sim/a"), "k")


async def test_filtered_pages_miss_nothing_and_repeat_nothing(database: Database) -> None:
    """The cursor stands behind what was taken, however much was passed over; a hidden shared model stays hidden."""
    models = PostgresModelRepository(database)
    named = [
        sample_model(f"sim/{n:02}", capabilities=["chat", "vision"] if n % 3 == 0 else ["chat"]) for n in range(20)
    ]
    await seed_catalogue(database, named)
    await models.put("alice", sample_model("sim/03"), "k")  # hers has no eyes
    wanted, cursor, found, pages = ModelFilter(capabilities=frozenset({"vision"})), None, [], 0
    while cursor is not None or pages == 0:
        page = await models.list("alice", cursor, 2, wanted)
        assert len(page.items) <= 2
        found += [stored.body.id for stored in page.items]
        cursor, pages = page.next_cursor, pages + 1
    assert found == [f"sim/{n:02}" for n in (0, 6, 9, 12, 15, 18)]
    assert pages == 3


async def test_seeding_is_repeatable(database: Database) -> None:
    """A restart changes nothing; a new release adds, changes and drops."""
    models = PostgresModelRepository(database)
    assert await seed_catalogue(database, [sample_model("sim/a"), sample_model("sim/b")]) == 2
    assert await seed_catalogue(database, [sample_model("sim/a"), sample_model("sim/b")]) == 0
    assert await seed_catalogue(database, [sample_model("sim/a", quality_score=0.5), sample_model("sim/c")]) == 3
    assert [m.body.id for m in (await models.list("alice", None, 9)).items] == ["sim/a", "sim/c"]


async def test_provider_keys_go_in_and_never_out(database: Database, migrated_url: str) -> None:
    """A provider shows that it has a key; without a new one the stored one stays; nothing holds it in clear."""
    providers = PostgresProviderRepository(database, keyring())
    assert not (await providers.create("alice", sample_provider(), "k")).body.has_key
    with pytest.raises(Conflict):
        await providers.create("alice", sample_provider(), "k")
    assert (await providers.put("alice", sample_provider(api_key=SecretStr(CANARY)), "k")).body.has_key
    kept = await providers.put("alice", sample_provider(base_url="http://localhost:1/v1"), "k")
    assert kept.body.has_key
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
    made = await providers.create("alice", sample_provider(api_key=SecretStr(CANARY), api_keys=many), "k")
    assert (made.body.has_key, made.body.key_count) == (True, 4)
    assert (await providers.put("alice", sample_provider(base_url="http://localhost:1/v1"), "k")).body.key_count == 4
    assert CANARY not in repr(await providers.get("alice", "openai"))
    for table in ("providers", "audit_log"):
        assert CANARY not in table_text(migrated_url, table)
        assert CANARY.encode().hex() not in table_text(migrated_url, table)
    assert (await providers.put("alice", sample_provider(api_keys=many[:2]), "k")).body.key_count == 2
    assert (await providers.put("alice", sample_provider(api_key=SecretStr(CANARY)), "k")).body.key_count == 1


async def test_reencryption_moves_every_key(database: Database) -> None:
    """Also where only a further key is under an old one; all of them open afterwards, in their order."""
    old, new = generate_key(), generate_key()
    keys = [SecretStr(f"{CANARY}-{number}") for number in range(3)]
    await PostgresProviderRepository(database, Keyring([old])).create("alice", sample_provider(api_keys=keys), "k")
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
        await before.create("alice", sample_provider(f"p{number}", api_key=SecretStr(CANARY)), "k")
    after = PostgresProviderRepository(database, Keyring([new, old]))
    assert [await after.reencrypt(2), await after.reencrypt(2), await after.reencrypt(2)] == [2, 1, 0]
    assert await PostgresProviderRepository(database, Keyring([new])).reencrypt() == 0
