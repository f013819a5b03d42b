"""In-memory repositories for unit tests of the API, and an application over them."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from aiohttp import web
from aiohttp.test_utils import TestClient

from api.app import create_app
from api.http.auth import CachedAuthenticator
from api.services import Services
from modelpilot.errors import Conflict, DependencyUnavailable, InvalidRequest, NotFound, PermissionDenied
from modelpilot.management.resources import (
    ALL_SCOPES,
    EVERY_MODEL,
    OPERATOR_USER,
    SHARED_OWNER,
    ApiKeyChange,
    AuditEntry,
    ModelFilter,
    NewApiKey,
    Page,
    ProviderSummary,
    Stored,
    StoredApiKey,
    StoredModel,
    StoredRouter,
    Unchanged,
)
from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.requests.records import Principal
from modelpilot.routing.aliases import KnownAliases, Target
from modelpilot.routing.router import Router

Item = TypeVar("Item")
Body = TypeVar("Body")
NOW = 1_780_000_000.0


def secret_of(name: str) -> str:
    """A well-formed API key that is the same in every run."""
    return f"mp_{hashlib.sha256(name.encode()).hexdigest()}"


def page_of(items: Sequence[Item], cursor: str | None, limit: int) -> Page[Item]:
    """The page that begins at the offset in `cursor`."""
    if cursor is not None and not cursor.isdecimal():
        raise InvalidRequest("cursor: it is not one of ours", param="cursor")
    start = int(cursor or 0)
    more = start + limit < len(items)
    return Page(tuple(items[start : start + limit]), str(start + limit) if more else None)


class Table(Generic[Body, Item]):
    """Rows by (owner, id)."""

    def __init__(self, make: Callable[[Body, Item | None], Item], id_of: Callable[[Body], str]) -> None:
        self.rows: dict[tuple[str, str], Item] = {}
        self.actors: list[str] = []
        self._make = make
        self._id_of = id_of

    async def create(self, user_id: str, body: Body, actor: str) -> Item:
        if (user_id, self._id_of(body)) in self.rows:
            raise Conflict(f"'{self._id_of(body)}' exists already.")
        return await self.put(user_id, body, actor)

    async def put(self, user_id: str, body: Body, actor: str) -> Item:
        key = (user_id, self._id_of(body))
        self.actors.append(actor)
        self.rows[key] = self._make(body, self.rows.get(key))
        return self.rows[key]

    async def get(self, user_id: str, subject: str) -> Item:
        if (user_id, subject) not in self.rows:
            raise NotFound(f"There is no '{subject}'.")
        return self.rows[user_id, subject]

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[Item]:
        return page_of([row for (owner, _), row in self.rows.items() if owner == user_id], cursor, limit)

    async def delete(self, user_id: str, subject: str, actor: str) -> None:
        await self.get(user_id, subject)
        del self.rows[user_id, subject]


class FakeRouters(Table[Router, StoredRouter]):
    def __init__(self) -> None:
        super().__init__(self._stored, lambda router: router.id)
        self.history: list[StoredRouter] = []

    def _stored(self, router: Router, old: StoredRouter | None) -> StoredRouter:
        stored = StoredRouter(router, old.created_at if old else NOW, NOW, old.version + 1 if old else 1)
        self.history.insert(0, stored)
        return stored

    async def versions(self, user_id: str, router_id: str) -> Sequence[StoredRouter]:
        await self.get(user_id, router_id)
        return [stored for stored in self.history if stored.body.id == router_id]


class FakeModels(Table[ModelSpec, StoredModel]):
    def __init__(self) -> None:
        super().__init__(lambda spec, old: StoredModel(spec, NOW, NOW, shared=False), lambda spec: spec.id)

    def seed(self, *ids: str) -> None:
        for model in ids:
            spec = ModelSpec(id=model, provider="sim", provider_model=model)
            self.rows[SHARED_OWNER, model] = StoredModel(spec, NOW, NOW, shared=True)

    async def get(self, user_id: str, subject: str) -> StoredModel:
        own = self.rows.get((user_id, subject))
        return own or await super().get(SHARED_OWNER, subject)

    async def list(
        self, user_id: str, cursor: str | None, limit: int, wanted: ModelFilter = EVERY_MODEL
    ) -> Page[StoredModel]:
        visible = {name: row for owner in (SHARED_OWNER, user_id) for (o, name), row in self.rows.items() if o == owner}
        return page_of([row for _, row in sorted(visible.items()) if wanted.takes(row.body)], cursor, limit)

    async def delete(self, user_id: str, subject: str, actor: str) -> None:
        if (await self.get(user_id, subject)).shared:
            raise PermissionDenied("The shared catalogue cannot be changed.")
        del self.rows[user_id, subject]


class FakeProviders(Table[ProviderSpec, Stored[ProviderSummary]]):
    def __init__(self) -> None:
        super().__init__(self._stored, lambda spec: spec.id)

    def _stored(self, spec: ProviderSpec, old: Stored[ProviderSummary] | None) -> Stored[ProviderSummary]:
        keys = len(spec.given_keys) or (0 if old is None else old.body.key_count)
        summary = ProviderSummary(
            id=spec.id,
            kind=spec.kind,
            base_url=spec.base_url,
            has_key=keys > 0,
            key_count=keys,
            parameters=spec.parameters,
        )
        return Stored(summary, NOW, NOW)


class FakeKeys:
    """API keys; `down` makes every query fail, `queries` counts the lookups by secret."""

    def __init__(self) -> None:
        self.rows: dict[str, StoredApiKey] = {}
        self.by_secret: dict[str, str] = {}
        self.operators: set[str] = {OPERATOR_USER}
        self.down = False
        self.queries = 0
        self.touched: list[str] = []

    def add(self, name: str, *, user: str = "alice", **changes: Any) -> str:
        """A key of `user` with all scopes; returns its secret."""
        stored = StoredApiKey(f"key-{name}", user, name, "mp_", frozenset(ALL_SCOPES), None, True, None, None, NOW)
        self.rows[stored.id] = replace(stored, **changes)
        self.by_secret[secret_of(name)] = stored.id
        return secret_of(name)

    async def authenticate(self, secret: str) -> Principal | None:
        self.queries += 1
        self._check_up()
        row = self.rows.get(self.by_secret.get(secret, ""))
        expired = row is not None and row.expires_at is not None and row.expires_at <= time.time()
        if row is None or not row.active or expired:
            return None
        return Principal(row.user_id, row.id, row.scopes, row.allowed_routers, row.user_id in self.operators)

    def touch(self, api_key_id: str) -> None:
        self.touched.append(api_key_id)

    async def create(self, user_id: str, new: NewApiKey, actor: str | None = None) -> tuple[StoredApiKey, str]:
        name = f"made-{len(self.rows)}"
        secret = self.add(
            name, user=user_id, scopes=new.scopes, allowed_routers=new.allowed_routers, expires_at=new.expires_at
        )
        self.rows[f"key-{name}"] = replace(self.rows[f"key-{name}"], name=new.name)
        return self.rows[f"key-{name}"], secret

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[StoredApiKey]:
        return page_of([row for row in self.rows.values() if row.user_id == user_id], cursor, limit)

    async def get(self, user_id: str, key_id: str) -> StoredApiKey:
        self._check_up()
        row = self.rows.get(key_id)
        if row is None or row.user_id != user_id:
            raise NotFound("There is no such key.")
        return row

    async def update(self, user_id: str, key_id: str, wanted: ApiKeyChange, actor: str | None = None) -> StoredApiKey:
        row = await self.get(user_id, key_id)
        fields = ("name", "active", "expires_at", "allowed_routers")
        given = {name: getattr(wanted, name) for name in fields if not isinstance(getattr(wanted, name), Unchanged)}
        self.rows[key_id] = replace(row, **given)
        return self.rows[key_id]

    async def rotate(
        self, user_id: str, key_id: str, overlap_seconds: float, actor: str | None = None
    ) -> tuple[StoredApiKey, str]:
        old = await self.get(user_id, key_id)
        new, secret = await self.create(user_id, NewApiKey(old.name, old.scopes, old.allowed_routers))  # type: ignore[arg-type]
        self.rows[key_id] = replace(old, expires_at=time.time() + overlap_seconds)
        self.rows[new.id] = replace(new, rotated_from=key_id)
        return self.rows[new.id], secret

    async def delete(self, user_id: str, key_id: str, actor: str | None = None) -> None:
        await self.get(user_id, key_id)
        del self.rows[key_id]

    def _check_up(self) -> None:
        if self.down:
            raise DependencyUnavailable("Postgres is down.")


class FakeAudit:
    """An audit log that tests fill."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[AuditEntry]:
        return page_of([entry for entry in self.entries if entry.user_id == user_id], cursor, limit)


@dataclass
class FakeStores:
    """All fakes, with what the application did to them."""

    routers: FakeRouters = field(default_factory=FakeRouters)
    models: FakeModels = field(default_factory=FakeModels)
    providers: FakeProviders = field(default_factory=FakeProviders)
    keys: FakeKeys = field(default_factory=FakeKeys)
    audit: FakeAudit = field(default_factory=FakeAudit)
    changes: list[tuple[str, str, str]] = field(default_factory=list)

    def services(self, **more: Any) -> Services:
        """The application's collaborators over these fakes."""
        return Services(
            **{
                "authenticator": CachedAuthenticator(self.keys),
                "routers": self.routers,
                "models": self.models,
                "providers": self.providers,
                "keys": self.keys,
                "audit": self.audit,
                "aliases": self.aliases,
                "on_change": lambda kind, user, subject: self.changes.append((kind, user, subject)),
                **more,
            }
        )

    async def aliases(self, user_id: str) -> KnownAliases:
        """What the rows say."""
        routers = [(Target("router", key[1]), row.body.aliases) for key, row in self.routers.rows.items()]
        models = [(Target("model", key[1]), row.body.aliases) for key, row in self.models.rows.items()]
        return KnownAliases.of([*routers, *models])

    def app(self, **more: Any) -> web.Application:
        """The application over these fakes."""
        return create_app(self.services(**more))


def bearer(secret: str) -> dict[str, str]:
    """The headers of an authenticated request."""
    return {"authorization": f"Bearer {secret}"}


class Api:
    """One caller of one application."""

    def __init__(self, client: TestClient[web.Request, web.Application], headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    async def __call__(self, method: str, path: str, json: Any = None) -> tuple[int, Any]:
        """Status and body (None where there is none)."""
        response = await self.client.request(method, path, json=json, headers=self.headers)
        return response.status, await response.json() if await response.read() else None
