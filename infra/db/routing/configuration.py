"""Routers, models and providers as they are stored now, for the request path. One query per snapshot."""

from collections.abc import Mapping
from typing import Any

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.management.providers import key_place, sealed_keys
from modelpilot.errors import InvalidRequest, NotFound
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import OPENROUTER, ProviderFacts, deployment_specs, usable_deployments
from modelpilot.providers.manners import Manners, service_of
from modelpilot.providers.resolution import ConfiguredProvider, OwnProvider, resolve_provider
from modelpilot.requests.records import ProviderEndpoint, RouterSnapshot
from modelpilot.routing.aliases import KnownAliases, Target
from modelpilot.routing.router import Router

_UNKNOWN = "model_not_found"  # OpenAI's word for it, which clients look for

# "Descending by owner" prefers the owner's own model over the shared one, whose owner is the empty string.
_MODELS_AND_PROVIDERS = """
    (SELECT coalesce(jsonb_object_agg(id, body), '{}') FROM (
        SELECT DISTINCT ON (id) id, body FROM models
        WHERE user_id IN (%(user_id)s, '') AND id IN (SELECT id FROM named)
        ORDER BY id, user_id DESC) AS found) AS models,
    (SELECT coalesce(jsonb_object_agg(id, jsonb_build_object(
        'kind', kind, 'base_url', base_url, 'parameters', parameters,
        'key_count', (api_key_encrypted IS NOT NULL)::int + cardinality(further_keys_encrypted))), '{}')
     FROM providers WHERE user_id = %(user_id)s) AS providers
"""

_ROUTER = f"""
WITH router AS (
    SELECT body, version FROM routers WHERE user_id = %(user_id)s AND id = %(router_id)s
), named (id) AS (
    SELECT jsonb_array_elements_text(body -> 'availableModels') FROM router
    UNION SELECT jsonb_array_elements_text(body -> 'fallbackStrategy' -> 'fallbackModels') FROM router
    UNION SELECT body ->> 'preferredModel' FROM router
)
SELECT body, version, {_MODELS_AND_PROVIDERS} FROM router
"""  # noqa: S608  (own constants)

_MODEL = f"""
WITH named (id) AS (SELECT unnest(%(model_ids)s::text[]))
SELECT {_MODELS_AND_PROVIDERS}
"""

# Shared models count like the owner's own, unless one of those hides them.
_ALIASES = """
SELECT 'router' AS kind, id, body -> 'aliases' AS aliases, false AS own_model FROM routers
WHERE user_id = %(user_id)s AND jsonb_array_length(body -> 'aliases') > 0
UNION ALL
SELECT 'model', id, aliases, user_id <> '' FROM (
    SELECT DISTINCT ON (id) id, user_id, body -> 'aliases' AS aliases FROM models WHERE user_id IN (%(user_id)s, '')
    ORDER BY id, user_id DESC) AS models
WHERE user_id <> '' OR jsonb_array_length(aliases) > 0
"""

_PROVIDER = """
SELECT kind, base_url, parameters, api_key_encrypted, further_keys_encrypted FROM providers
WHERE user_id = %s AND id = %s
"""


class PostgresConfiguration:
    """Implements `modelpilot.requests.ports.ConfigurationSource`.

    `environment` maps provider ids to what the process was configured with.
    """

    def __init__(self, database: Database, keyring: Keyring, environment: Mapping[str, ConfiguredProvider]) -> None:
        self._database = database
        self._keyring = keyring
        self._environment = environment

    async def router_snapshot(self, user_id: str, router_id: str) -> RouterSnapshot:
        """The router with the models it names, at its newest version. Raises NotFound, DependencyUnavailable."""
        row = await self._fetch(_ROUTER, {"user_id": user_id, "router_id": router_id})
        if row is None:
            raise NotFound(f"router {router_id!r} does not exist", code=_UNKNOWN)
        return self._snapshot(user_id, Router.model_validate(row["body"]), row["version"], row)

    async def direct_snapshot(self, user_id: str, model_id: str, *fallbacks: str) -> RouterSnapshot:
        """A synthetic preferredModel router (id "", version 0) with those fallbacks that the catalogue has. Raises
        NotFound for a model that is not there, DependencyUnavailable."""
        row = await self._fetch(_MODEL, {"user_id": user_id, "model_ids": [model_id, *fallbacks]})
        if row is None or model_id not in row["models"]:
            advice = "an alias of a router or of a model makes it known"
            raise NotFound(f"model {model_id!r} does not exist; {advice}", param="model", code=_UNKNOWN)
        named = Router(id="direct", mode="preferredModel", preferred_model=model_id)
        return self._snapshot(user_id, named.model_copy(update={"id": ""}), 0, row)

    async def aliases(self, user_id: str) -> KnownAliases:
        """The names that this owner's routers and models go by. Raises DependencyUnavailable."""
        rows = await self._database.fetch_all(_ALIASES, {"user_id": user_id})
        named = ((Target(row["kind"], row["id"]), row["aliases"] or ()) for row in rows)
        return KnownAliases.of(named, [row["id"] for row in rows if row["own_model"]])

    async def endpoint(self, user_id: str, provider_id: str, key_index: int = 0) -> ProviderEndpoint:
        """Where to call the provider and with which of its keys (that one decrypted). Raises NotFound with the reason
        where it cannot be called, DecryptionFailed, DependencyUnavailable."""
        row = await self._fetch(_PROVIDER, None, (user_id, provider_id))
        sealed = [] if row is None else sealed_keys(row)
        own = None if row is None else _own(row, len(sealed))
        found = resolve_provider(provider_id, own, self._environment)
        if isinstance(found, str):
            raise NotFound(found)
        index = key_index % found.key_count
        key = found.environment_keys[index] if found.environment_keys else None
        if found.own_keys:
            key = self._keyring.decrypt(sealed[index], key_place(user_id, provider_id, index)).decode()
        return ProviderEndpoint(provider_id, found.kind, found.base_url, key, index, found.key_count, found.parameters)

    async def _fetch(
        self, query: str, named: Mapping[str, Any] | None, positional: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        try:
            return await self._database.fetch_one(query, named or positional)
        except InvalidRequest:  # an id that no text column can hold names nothing
            return None

    def _snapshot(self, user_id: str, router: Router, version: int, row: Mapping[str, Any]) -> RouterSnapshot:
        models = {model_id: ModelSpec.model_validate(body) for model_id, body in row["models"].items()}
        own = {provider_id: _own(plain, plain["key_count"]) for provider_id, plain in row["providers"].items()}
        providers = {provider_id: self._facts(provider_id, own) for provider_id in _providers_of(models)}
        unavailable: dict[str, str] = {}
        for model_id in {model for _, model in router.named_models()}:
            reason = _why_unavailable(models.get(model_id), model_id, router.call_format, providers)
            if reason is not None:
                unavailable[model_id] = reason
        return RouterSnapshot(user_id, router, version, models, unavailable, providers)

    def _facts(self, provider_id: str, own: Mapping[str, OwnProvider]) -> ProviderFacts:
        found = resolve_provider(provider_id, own.get(provider_id), self._environment)
        if isinstance(found, str):
            return ProviderFacts(unavailable=found)
        service = service_of(found.base_url)
        return ProviderFacts(found.kind, found.key_count, service=service, parameters=found.parameters)


def _own(row: Mapping[str, Any], key_count: int) -> OwnProvider:
    said = row["parameters"]
    parameters = None if said is None else Manners.model_validate(said)
    return OwnProvider(row["kind"], row["base_url"], key_count, parameters)


def _providers_of(models: Mapping[str, ModelSpec]) -> set[str]:
    # OpenRouter as well, since a single request may ask to be sent through it.
    return {OPENROUTER, *(each.provider for model in models.values() for each in deployment_specs(model))}


def _why_unavailable(
    model: ModelSpec | None, model_id: str, call_format: str | None, providers: Mapping[str, ProviderFacts]
) -> str | None:
    if model is None:
        return f"model {model_id} is not in the catalogue (PUT /api/models/{model_id})"
    return usable_deployments(model, call_format, providers).why_none
