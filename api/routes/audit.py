"""`/api/audit`: who changed what, newest first."""

from typing import Any

from aiohttp import web
from pydantic import AwareDatetime

from api.registry import RouteSpec
from api.routes import crud
from api.services import SERVICES
from modelpilot.management.resources import AuditEntry
from modelpilot.wire.json_model import WireModel


class AuditView(WireModel):
    """One management change. `actor` is the id of the API key that made it; `before` and `after` hold no secrets."""

    id: int
    timestamp: AwareDatetime
    actor: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditListing(crud.Listing[AuditView]):
    """Changes, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    return [
        RouteSpec(
            "GET",
            "/api/audit",
            _list,
            "admin",
            "List management changes",
            "audit",
            None,
            AuditListing,
            200,
            crud.PAGING,
        )
    ]


async def _list(request: web.Request) -> web.StreamResponse:
    audit = request.app[SERVICES].audit
    return crud.listed(await audit.list(crud.owner_of(request), *crud.paging(request)), _view)


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=entry.id,
        timestamp=crud.utc(entry.at),
        actor=entry.actor,
        action=entry.action,
        kind=entry.kind,
        subject=entry.subject,
        before=entry.before,
        after=entry.after,
    )
