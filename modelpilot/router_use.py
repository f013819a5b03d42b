"""What the analytics site reads of routers: their settings, versions and use. The SQL behind it is in `infra/db`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelpilot.analytics import AnalyticsScope

# Versions that the site lists; older ones are in the API.
MOST_VERSIONS = 200


@dataclass(frozen=True, slots=True)
class PredictorState:
    """What was fitted for a router. `version`, `fitted_at` and `rows` are of the one in use (None: none is).

    `refused_at` and `refused_because` are there where the newest fit was refused. Times are Unix seconds.
    """

    version: int | None = None
    fitted_at: float | None = None
    rows: int | None = None
    refused_at: float | None = None
    refused_because: str | None = None


NO_PREDICTOR = PredictorState()


@dataclass(frozen=True, slots=True)
class RouterUse:
    """A router as it stands, and its requests in a range of time. `body` is its camelCase JSON, times are Unix seconds.

    `cost_usd` adds up the known costs; `unknown_cost` counts the completed requests whose cost nobody knows.
    """

    user_id: str
    router_id: str
    body: Mapping[str, Any]
    version: int
    created_at: float
    updated_at: float
    requests: int = 0
    cost_usd: float = 0.0
    unknown_cost: int = 0
    predictor: PredictorState = NO_PREDICTOR


@dataclass(frozen=True, slots=True)
class RouterVersion:
    """A router at one version: when it was made, and by whom (an API key's name, a user of the site, a command)."""

    version: int
    made_at: float
    made_by: str
    body: Mapping[str, Any]


class RouterReader(Protocol):
    """Reads routers. Synchronous, called from several threads at once. Raises DependencyUnavailable."""

    def routers(self, scope: AnalyticsScope) -> Sequence[RouterUse]:
        """The routers of a scope, the busiest first."""
        ...

    def versions(self, user_id: str, router_id: str) -> Sequence[RouterVersion]:
        """The newest MOST_VERSIONS versions, newest first; none where the tenant has no such router."""
        ...
