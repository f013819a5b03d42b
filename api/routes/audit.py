"""`/api/audit`: who changed what, newest first."""

from typing import Any

from aiohttp import web

from api.http.registry import RouteSpec
from api.routes import resource
from api.services import SERVICES
from modelpilot.management.resources import AuditEntry
from modelpilot.wire.json_model import WireModel


class AuditView(WireModel):
    """One management change. `actor` is the id of the API key that made it; `before` and `after` hold no secrets."""

    id: int
    timestamp: resource.Time
    actor: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditListing(resource.PageView[AuditView]):
    """Changes, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    return [
        RouteSpec(
            "GET", "/api/audit", _list, "admin", "List management changes", "audit", None, AuditListing, 200,
            resource.PAGING,
        )
    ]  # fmt: skip


async def _list(request: web.Request) -> web.StreamResponse:
    audit = request.app[SERVICES].audit
    return resource.listed(await audit.list(resource.owner_of(request), *resource.paging(request)), _view)


def _view(entry: AuditEntry) -> AuditView:
    return resource.view_of(AuditView, entry, timestamp=entry.at)
