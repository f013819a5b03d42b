"""What a page is, and what it gets to work with."""

from collections.abc import Callable
from dataclasses import dataclass

import flask
from dash import Dash

from dashboard.config import DashboardConfig
from dashboard.frame.elements import Element
from dashboard.frame.urls import query
from modelpilot.management.site import Visitor
from modelpilot.metrics.ports import SiteReader, Workbench


@dataclass(frozen=True, slots=True)
class PageContext:
    """Everything a page may use. `clock` gives Unix seconds."""

    reader: SiteReader
    workbench: Workbench
    config: DashboardConfig
    clock: Callable[[], float]

    @property
    def visitor(self) -> Visitor:
        """Who asks, as `dashboard.access` found out before the callback. Raises AttributeError outside of a request."""
        visitor: Visitor = flask.g.visitor
        return visitor

    def tenant(self, search: str | None) -> str | None:
        """Whose data to read for this visitor, None for everybody's. `?as=` counts for admins only."""
        return self.visitor.tenant(query(search).get("as"))


def actor_of(context: PageContext) -> str:
    """Who makes a change, as the audit log names it."""
    return f"site:{context.visitor.username or context.visitor.user_id}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the site: add a module, list it in `dashboard.pages.PAGES`, and navigation and routing know it.

    `layout` gets the URL's query string and may not read any data: callbacks do, so that the page shows at once.
    `under` is the path of the page that the navigation marks for a page that has no entry of its own.
    """

    path: str
    title: str
    layout: Callable[[PageContext, str], Element]
    register: Callable[[Dash, PageContext], None]
    under: str | None = None
