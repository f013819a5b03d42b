"""What the analytics site does with the product's own functions: decide, replay decisions, change a router.

Synchronous, since the site is; called from several threads at once. Every method is about one tenant's router, and
raises NotFound where the tenant has none of that name, DependencyUnavailable where the database is away.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from modelpilot.learning.replay.frontier import Frontier

# The newest requests that a page replays or draws: half a second of work.
MOST_DECISIONS = 2_000


class Workbench(Protocol):
    """The port. `user_id` has to come from the visitor's session."""

    def explain(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The decision for a chat body, as `POST /router/{id}/explain` shows it; without exploring, and without what
        only gateways know (open circuit breakers). Raises InvalidRequest, NoCandidate."""
        ...

    def replay(self, user_id: str, router_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of `POST /router/{id}/replay` to this body. Raises InvalidRequest."""
        ...

    def frontier(self, user_id: str, router_id: str, start_s: float, end_s: float) -> Frontier:
        """Cost and quality of the models, from the newest logged decisions between two moments (Unix seconds)."""
        ...

    def restore(self, user_id: str, router_id: str, version: int, actor: str) -> int:
        """Make an older version the newest one, audited under `actor` and announced to every gateway; its number (that
        of today's where nothing differs). Raises InvalidRequest where it can no longer be had, e.g. a model is gone."""
        ...
