"""What the request path reads: routers with their models, and which providers can be called with whose key."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from infra.crypto.keyring import DecryptionFailed, Keyring
from infra.db.engine import Database
from infra.db.management.models import PostgresModelRepository
from infra.db.management.providers import PostgresProviderRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import seed_catalogue
from infra.db.routing.configuration import PostgresConfiguration
from modelpilot.errors import NotFound
from modelpilot.providers.catalogue import DeploymentSpec, ModelSpec, ProviderSpec
from modelpilot.providers.deployments import ProviderFacts
from modelpilot.providers.manners import Manners
from modelpilot.providers.resolution import ConfiguredProvider
from modelpilot.routing.router import FallbackStrategy, Router
from tests.support.samples import keyring

SIMULATOR = ConfiguredProvider("simulator", "http://127.0.0.1:9")
OPENAI = ConfiguredProvider("openai", "https://api.openai.com/v1", ("env-key",))
LOCAL = "http://localhost:11434/v1"


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    async with Database(migrated_url) as opened:
        await seed_catalogue(opened, [_model("sim/small", "simulator"), _model("openai/gpt", "openai")])
        yield opened


@pytest.fixture
def ring() -> Keyring:
    return keyring()


def _model(model_id: str, provider: str, **changes: Any) -> ModelSpec:
    return ModelSpec(id=model_id, provider=provider, provider_model=model_id.rpartition("/")[2], **changes)


def _source(database: Database, ring: Keyring, *environment: ConfiguredProvider) -> PostgresConfiguration:
    configured: Mapping[str, ConfiguredProvider] = {provider.kind: provider for provider in environment}
    return PostgresConfiguration(database, ring, configured)


async def test_a_snapshot_has_all_named_models(database: Database, ring: Keyring) -> None:
    """Available, preferred and fallback models come along; what cannot be called says why."""
    router = Router(
        id="support",
        available_models=["sim/small", "openai/gpt"],
        preferred_model="own/m",
        fallback_strategy=FallbackStrategy(fallback_models=["ghost/x"]),
    )
    await PostgresModelRepository(database).put("alice", _model("own/m", "elsewhere"), "k")
    await PostgresRouterRepository(database).put("alice", router, "k")
    snapshot = await _source(database, ring, SIMULATOR).router_snapshot("alice", "support")
    assert (snapshot.user_id, snapshot.router, snapshot.version) == ("alice", router, 1)
    assert set(snapshot.models) == {"sim/small", "openai/gpt", "own/m"}
    assert snapshot.unavailable == {
        "openai/gpt": "provider openai has no API key (set OPENAI_API_KEY or PUT /api/providers/openai)",
        "own/m": "provider elsewhere is not configured (PUT /api/providers/elsewhere)",
        "ghost/x": "model ghost/x is not in the catalogue (PUT /api/models/ghost/x)",
    }


async def test_a_snapshot_knows_kinds_and_openrouter(database: Database, ring: Keyring) -> None:
    """Each model's wire format, and why OpenRouter cannot be used by a single request, where it cannot."""
    local = ProviderSpec(id="groq", kind="openai", base_url=LOCAL)
    await PostgresProviderRepository(database, ring).put("alice", local, "k")
    await PostgresModelRepository(database).put("alice", _model("own/m", "groq"), "k")
    await PostgresModelRepository(database).put("alice", _model("own/lost", "elsewhere"), "k")
    named = ["sim/small", "own/m", "own/lost", "ghost/x"]
    await PostgresRouterRepository(database).put("alice", Router(id="support", available_models=named), "k")
    without = await _source(database, ring, SIMULATOR).router_snapshot("alice", "support")
    assert {name: facts.kind for name, facts in without.providers.items() if not facts.unavailable} == {
        "simulator": "simulator",
        "groq": "openai",
    }
    assert "provider openrouter has no API key" in (without.why_unavailable("own/lost", "openrouter") or "")
    assert "not in the catalogue" in (without.why_unavailable("ghost/x", "openrouter") or "")
    key = ProviderSpec(id="openrouter", kind="openrouter", api_key=SecretStr("or-key"))
    await PostgresProviderRepository(database, ring).put("alice", key, "k")
    with_key = await _source(database, ring, SIMULATOR).router_snapshot("alice", "support")
    assert with_key.why_unavailable("own/lost", "openrouter") is None
    assert "not configured" in (with_key.why_unavailable("own/lost", None) or "")


async def test_own_models_win_over_shared_ones(database: Database, ring: Keyring) -> None:
    """An override counts for its owner only."""
    await PostgresModelRepository(database).put("alice", _model("sim/small", "simulator", quality_score=0.9), "k")
    source = _source(database, ring, SIMULATOR)
    mine = await source.direct_snapshot("alice", "sim/small")
    theirs = await source.direct_snapshot("bob", "sim/small")
    assert mine.models["sim/small"].quality_score == 0.9
    assert theirs.models["sim/small"].quality_score is None


async def test_a_direct_call_gets_a_synthetic_router(database: Database, ring: Keyring) -> None:
    """Calling a catalogue model needs no router, and falls back to nothing."""
    snapshot = await _source(database, ring, SIMULATOR).direct_snapshot("alice", "sim/small")
    assert (snapshot.router.id, snapshot.version) == ("", 0)
    assert (snapshot.router.mode, snapshot.router.preferred_model) == ("preferredModel", "sim/small")
    assert snapshot.router.fallback_strategy.fallback_models == []
    assert snapshot.unavailable == {}


@pytest.mark.parametrize("unknown", ["ghost", "", "a\0b", "\ud800", "' OR 1=1 --"])
async def test_what_does_not_exist_is_not_found(database: Database, ring: Keyring, unknown: str) -> None:
    """Any string that a client may name is looked up or refused, never an internal error."""
    source = _source(database, ring, SIMULATOR)
    with pytest.raises(NotFound):
        await source.router_snapshot("alice", unknown)
    with pytest.raises(NotFound):
        await source.direct_snapshot("alice", unknown)
    with pytest.raises(NotFound):
        await source.endpoint("alice", unknown)


async def test_tenants_are_apart(database: Database, ring: Keyring) -> None:
    """Routers, models and provider keys of one tenant are nothing to another."""
    await PostgresRouterRepository(database).put("alice", Router(id="support", available_models=["own/m"]), "k")
    await PostgresModelRepository(database).put("alice", _model("own/m", "openai"), "k")
    spec = ProviderSpec(id="openai", kind="openai", api_key=SecretStr("alice-key"))
    await PostgresProviderRepository(database, ring).put("alice", spec, "k")
    source = _source(database, ring)
    assert (await source.router_snapshot("alice", "support")).unavailable == {}
    assert (await source.endpoint("alice", "openai")).api_key == "alice-key"
    with pytest.raises(NotFound):
        await source.router_snapshot("bob", "support")
    with pytest.raises(NotFound):
        await source.direct_snapshot("bob", "own/m")
    with pytest.raises(NotFound):
        await source.endpoint("bob", "openai")
    assert "openai/gpt" in (await source.direct_snapshot("bob", "openai/gpt")).unavailable


KEYS = [SecretStr("first"), SecretStr("second"), SecretStr("third")]


async def test_every_key_can_be_had_by_itself(database: Database, ring: Keyring) -> None:
    """By index, which counts on from the first where keys were taken away; decisions know how many there are."""
    spec = ProviderSpec(id="openai", kind="openai", api_keys=KEYS)
    await PostgresProviderRepository(database, ring).put("alice", spec, "k")
    source = _source(database, ring, OPENAI)
    endpoints = [await source.endpoint("alice", "openai", index) for index in range(4)]
    assert [endpoint.api_key for endpoint in endpoints] == ["first", "second", "third", "first"]
    assert [(endpoint.key_index, endpoint.key_count) for endpoint in endpoints] == [(0, 3), (1, 3), (2, 3), (0, 3)]
    snapshot = await source.direct_snapshot("alice", "openai/gpt")
    assert snapshot.providers["openai"] == ProviderFacts("openai", 3, service="openai")
    assert (await source.direct_snapshot("bob", "openai/gpt")).providers["openai"] == ProviderFacts(
        "openai", 1, service="openai"
    )


async def test_manners_reach_decisions_and_calls(database: Database, ring: Keyring) -> None:
    """What the owner says of a provider, also where its key is the environment's; a `PUT` without takes it away."""
    providers, said = PostgresProviderRepository(database, ring), Manners(omit=("seed",), temperature=(0, 1))
    source = _source(database, ring, OPENAI)
    for local in (
        ProviderSpec(id="openai", kind="openai", parameters=said),
        ProviderSpec(id="openai", kind="openai", base_url=LOCAL, parameters=said),
    ):
        assert (await providers.put("alice", local, "k")).body.parameters == said
        snapshot = await source.direct_snapshot("alice", "openai/gpt")
        assert snapshot.providers["openai"].parameters == said
        assert (await source.endpoint("alice", "openai")).parameters == said
    await providers.put("alice", ProviderSpec(id="openai", kind="openai", base_url=LOCAL), "k")
    assert (await source.endpoint("alice", "openai")).parameters is None


async def test_keys_of_the_environment_share_the_load(database: Database, ring: Keyring) -> None:
    """A variable may hold several; they are numbered like a tenant's own."""
    source = _source(database, ring, ConfiguredProvider("openai", OPENAI.base_url, ("one", "two")))
    found = [(await source.endpoint("alice", "openai", index)).api_key for index in range(3)]
    assert found == ["one", "two", "one"]
    assert (await source.direct_snapshot("alice", "openai/gpt")).providers["openai"].key_count == 2


async def test_a_broken_key_leaves_the_others(database: Database, ring: Keyring) -> None:
    """Keys that were swapped within a row, or taken from another one, stay closed; the rest opens."""
    providers, source = PostgresProviderRepository(database, ring), _source(database, ring)
    for user_id in ("alice", "bob"):
        await providers.put(user_id, ProviderSpec(id="openai", kind="openai", api_keys=KEYS), "k")
    await database.fetch_all(
        "UPDATE providers SET further_keys_encrypted = ARRAY[further_keys_encrypted[2], further_keys_encrypted[1]]"
        " WHERE user_id = 'alice'"
    )
    await database.fetch_all(
        "UPDATE providers SET further_keys_encrypted ="
        " (SELECT further_keys_encrypted FROM providers WHERE user_id = 'alice') WHERE user_id = 'bob'"
    )
    for user_id in ("alice", "bob"):
        assert (await source.endpoint(user_id, "openai")).api_key == "first"
        for index in (1, 2):
            with pytest.raises(DecryptionFailed):
                await source.endpoint(user_id, "openai", index)


async def test_a_model_is_available_where_any_deployment_is(database: Database, ring: Keyring) -> None:
    """Unavailable only where no provider of its deployments can be called; then every reason is given once."""
    models = PostgresModelRepository(database)
    east, west = DeploymentSpec(provider="east"), DeploymentSpec(provider="west", provider_model="m2")
    await models.put("alice", _model("own/m", "openai", deployments=[east, west]), "k")
    source = _source(database, ring, OPENAI)
    reason = (await source.direct_snapshot("alice", "own/m")).unavailable["own/m"]
    assert reason.count("is not configured") == 2
    local = ProviderSpec(id="west", kind="openai", base_url=LOCAL)
    await PostgresProviderRepository(database, ring).put("alice", local, "k")
    snapshot = await source.direct_snapshot("alice", "own/m")
    assert snapshot.unavailable == {}
    deployments = snapshot.deployments(snapshot.models["own/m"], None, lambda kind, manners: None)
    assert [deployment.label for deployment in deployments.usable] == ["west/m2"]


async def test_a_stolen_row_does_not_open(database: Database, ring: Keyring) -> None:
    """A key that was copied into another tenant's row by hand stays closed."""
    providers = PostgresProviderRepository(database, ring)
    for user_id in ("alice", "bob"):
        spec = ProviderSpec(id="openai", kind="openai", api_key=SecretStr(f"{user_id}-key"))
        await providers.put(user_id, spec, "k")
    await database.fetch_all(
        "UPDATE providers SET api_key_encrypted ="
        " (SELECT api_key_encrypted FROM providers WHERE user_id = 'alice') WHERE user_id = 'bob'"
    )
    with pytest.raises(DecryptionFailed):
        await _source(database, ring).endpoint("bob", "openai")


@pytest.mark.parametrize(
    ("own", "environment", "expected"),
    [
        (None, OPENAI, (OPENAI.base_url, "env-key")),
        ({"api_key": SecretStr("own")}, OPENAI, (OPENAI.base_url, "own")),
        ({"api_key": SecretStr("own"), "base_url": LOCAL}, OPENAI, (LOCAL, "own")),
        ({"base_url": LOCAL}, OPENAI, (LOCAL, None)),
        ({}, OPENAI, (OPENAI.base_url, "env-key")),
        ({"api_key": SecretStr("own")}, SIMULATOR, ("https://api.openai.com/v1", "own")),
        (None, ConfiguredProvider("openai", LOCAL), (LOCAL, None)),
    ],
    ids=["environment", "own", "own+url", "own-url-no-key", "empty-row", "default-url", "local-environment"],
)
async def test_whose_key_goes_where(
    database: Database, ring: Keyring, own: Any, environment: ConfiguredProvider, expected: tuple[str, str | None]
) -> None:
    """Own settings win; a key of the environment never goes to a base URL that a tenant has set."""
    if own is not None:
        spec = ProviderSpec(id="openai", kind="openai", **own)
        await PostgresProviderRepository(database, ring).put("alice", spec, "k")
    source = _source(database, ring, environment)
    endpoint = await source.endpoint("alice", "openai")
    assert (endpoint.id, endpoint.base_url, endpoint.api_key) == ("openai", *expected)
    assert (await source.direct_snapshot("alice", "openai/gpt")).unavailable == {}


async def test_other_kinds_need_a_key_even_with_a_base_url(database: Database, ring: Keyring) -> None:
    """A row of the tenant's with a base URL must not borrow the environment's key."""
    environment = ConfiguredProvider("anthropic", "https://api.anthropic.com", ("env-key",))
    spec = ProviderSpec(id="anthropic", kind="anthropic", base_url="http://tenant.example")
    await PostgresProviderRepository(database, ring).put("alice", spec, "k")
    with pytest.raises(NotFound, match="no API key"):
        await _source(database, ring, environment).endpoint("alice", "anthropic")


async def test_call_format_openrouter_asks_for_openrouter(database: Database, ring: Keyring) -> None:
    """With `callFormat: openrouter` it is OpenRouter's key that counts, not the model's own provider's."""
    router = Router(id="support", available_models=["openai/gpt"], call_format="openrouter")
    await PostgresRouterRepository(database).put("alice", router, "k")
    reason = (await _source(database, ring, OPENAI).router_snapshot("alice", "support")).unavailable["openai/gpt"]
    assert "OPENROUTER_API_KEY" in reason
    key = ConfiguredProvider("openrouter", "https://openrouter.ai/api/v1", ("key",))
    assert (await _source(database, ring, key).router_snapshot("alice", "support")).unavailable == {}
