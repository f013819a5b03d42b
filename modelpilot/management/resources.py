"""What the management API reads and writes, and the repositories that it needs; `infra/db/management` has them.

Times are Unix seconds. Every method is scoped to one owner: another tenant's thing does not exist. All methods raise
DependencyUnavailable when the database is away. `actor` names who makes a change in the audit log (an API key id).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.providers.deployments import deployment_specs
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.manners import Manners
from modelpilot.requests.records import Principal
from modelpilot.routing.router import Router
from modelpilot.wire.json_model import ResourceBody

Item = TypeVar("Item")
Shown = TypeVar("Shown", bound=ResourceBody)
Body_contra = TypeVar("Body_contra", contravariant=True)
Read = TypeVar("Read")
Scope = Literal["route", "admin", "analytics"]

ALL_SCOPES: tuple[Scope, ...] = ("route", "admin", "analytics")
SHARED_OWNER = ""  # owner of the seeded catalogue, which everybody reads and nobody changes
OPERATOR_USER = "admin"  # owner of the admin key that the first start makes


class Unchanged:
    """Type of `UNCHANGED`: tells "leave it as it is" from null in a partial update."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list, newest first. `next_cursor` is opaque; None on the last page."""

    items: tuple[Item, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Stored(Generic[Shown]):
    """What is stored of a resource: its body, as its owner may see it, and when it was made and last changed."""

    body: Shown
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class StoredRouter(Stored[Router]):
    """A router at one version. In `versions`, both times are those of that version."""

    version: int


@dataclass(frozen=True, slots=True)
class StoredModel(Stored[ModelSpec]):
    """A model as its owner sees it. `shared`: it comes from the seeded catalogue and is not overridden."""

    shared: bool


class ProviderSummary(ResourceBody):
    """A provider without its keys, which are never returned."""

    kind: ProviderKind
    base_url: str | None
    has_key: bool
    key_count: int
    parameters: Manners | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """What is wanted of a new API key. `allowed_routers` None: all routers of the owner."""

    name: str = ""
    scopes: frozenset[Scope] = frozenset({"route"})
    allowed_routers: frozenset[str] | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class ApiKeyChange:
    """A partial update of an API key: fields left UNCHANGED keep their value, None clears them."""

    name: str | Unchanged = UNCHANGED
    active: bool | Unchanged = UNCHANGED
    expires_at: float | Unchanged | None = UNCHANGED
    allowed_routers: frozenset[str] | Unchanged | None = UNCHANGED


@dataclass(frozen=True, slots=True)
class StoredApiKey:
    """An API key without its secret; `prefix` is its beginning, for people to recognize it."""

    id: str
    user_id: str
    name: str
    prefix: str
    scopes: frozenset[str]
    allowed_routers: frozenset[str] | None
    active: bool
    expires_at: float | None
    last_used_at: float | None
    created_at: float
    rotated_from: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One management change: who did what to which thing, with the state before and after, without secrets."""

    id: int
    at: float
    user_id: str
    actor: str
    action: str  # create, update, delete, rotate or reset
    kind: str  # router, model, provider, api_key, user, site_user, health
    subject: str  # the thing's id
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class Repository(Protocol[Body_contra, Read]):
    """Resources of one kind: `create` and `put` take the body that their owners write; what is stored
    of it comes back."""

    async def create(self, user_id: str, body: Body_contra, actor: str) -> Read:
        """Raises Conflict where the owner has this id already."""
        ...

    async def put(self, user_id: str, body: Body_contra, actor: str) -> Read:
        """Create or replace."""
        ...

    async def get(self, user_id: str, subject: str) -> Read:
        """Raises NotFound."""
        ...

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[Read]:
        """One page. Raises InvalidRequest (param "cursor") for a cursor that we did not make."""
        ...

    async def delete(self, user_id: str, subject: str, actor: str) -> None:
        """Raises NotFound."""
        ...


class RouterRepository(Repository[Router, StoredRouter], Protocol):
    """Routers and their versions. A version is added only where the body changed; versions outlive their router."""

    async def versions(self, user_id: str, router_id: str) -> Sequence[StoredRouter]:
        """Every version, newest first, also of a deleted router. Raises NotFound where there never was one."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """Which models are wanted: served by `provider`, with all `capabilities`, with `search` in their id or their
    provider's name for them (in any case of letters), and served by one of `callable_at`. None, or empty: any."""

    provider: str | None = None
    capabilities: frozenset[str] = frozenset()
    search: str | None = None
    callable_at: frozenset[str] | None = None

    def takes(self, model: ModelSpec) -> bool:
        """Whether this is one of them."""
        providers = {each.provider for each in deployment_specs(model)}
        names = f"{model.id} {model.provider_model}".lower()
        return (
            (self.provider is None or self.provider in providers)
            and self.capabilities.issubset(model.capabilities)
            and (self.search is None or self.search.lower() in names)
            and (self.callable_at is None or not providers.isdisjoint(self.callable_at))
        )


EVERY_MODEL = ModelFilter()


class ModelRepository(Repository[ModelSpec, StoredModel], Protocol):
    """The owner's models over the shared catalogue, by id: an own one hides the shared one of the same id, and shows it
    again when it is deleted. A shared one cannot be deleted (PermissionDenied)."""

    async def list(
        self, user_id: str, cursor: str | None, limit: int, wanted: ModelFilter = EVERY_MODEL
    ) -> Page[StoredModel]:
        """One page of those that are wanted. Raises InvalidRequest (param "cursor")."""
        ...


# The owner's providers, newest first. Keys go in and never come out; a `put` without any key keeps those stored.
ProviderRepository: TypeAlias = Repository[ProviderSpec, Stored[ProviderSummary]]


class ApiKeyRepository(Protocol):
    """API keys. Secrets exist in clear only in the answer to `create` and `rotate`.

    `actor` None stands for the owner.
    """

    async def create(self, user_id: str, new: NewApiKey, actor: str | None = None) -> tuple[StoredApiKey, str]:
        """The key and its secret, shown this once. The owner is made where absent."""
        ...

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[StoredApiKey]:
        """Newest first."""
        ...

    async def get(self, user_id: str, key_id: str) -> StoredApiKey:
        """Raises NotFound."""
        ...

    async def update(self, user_id: str, key_id: str, wanted: ApiKeyChange, actor: str | None = None) -> StoredApiKey:
        """Raises NotFound."""
        ...

    async def rotate(
        self, user_id: str, key_id: str, overlap_seconds: float, actor: str | None = None
    ) -> tuple[StoredApiKey, str]:
        """A new key with the same rights; the old one expires after the overlap. Raises NotFound, and Conflict
        where the old one is inactive or expired."""
        ...

    async def delete(self, user_id: str, key_id: str, actor: str | None = None) -> None:
        """Remove the key. Raises NotFound."""
        ...

    async def authenticate(self, secret: str) -> Principal | None:
        """Who holds this secret; None for every reason to refuse it. A malformed one costs no query."""
        ...

    def touch(self, api_key_id: str) -> None:
        """Note that the key was used now; written in batches. For callers that cache `authenticate`."""
        ...


@dataclass(frozen=True, slots=True)
class HealthScope:
    """Which of an owner's deployments are meant: those of one provider, of one model; None: of any."""

    provider: str | None = None
    model: str | None = None

    @property
    def subject(self) -> str:
        """As the audit log and notifications name it: provider and model, `*` for any."""
        return f"{self.provider or '*'} {self.model or '*'}"

    @classmethod
    def of(cls, subject: str) -> "HealthScope":
        """What `subject` was made of."""
        provider, _, model = subject.partition(" ")
        return cls(None if provider == "*" else provider, None if model == "*" else model)

    def has(self, provider: str, model: str) -> bool:
        """Whether a deployment is meant."""
        return self.provider in (None, provider) and self.model in (None, model)


class HealthResets(Protocol):
    """Tells all gateways to let deployments of an owner begin again as healthy."""

    async def announce(self, user_id: str, scope: HealthScope, actor: str) -> None:
        """Raises DependencyUnavailable."""
        ...


class AuditRepository(Protocol):
    """The audit log of one owner."""

    async def list(self, user_id: str, cursor: str | None, limit: int) -> Page[AuditEntry]:
        """Newest first."""
        ...
