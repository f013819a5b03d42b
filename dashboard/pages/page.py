"""What a page is, and what it gets to work with."""

from collections.abc import Callable
from dataclasses import dataclass

from dash import Dash

from dashboard.config import DashboardConfig
from dashboard.elements import Element
from modelpilot.analytics import DashboardReader


@dataclass(frozen=True, slots=True)
class PageContext:
    """Everything a page may use. `clock` gives Unix seconds."""

    reader: DashboardReader
    config: DashboardConfig
    clock: Callable[[], float]

    @property
    def user_id(self) -> str | None:
        """Whose numbers are shown. Until the login exists the only visitor is the operator, who sees every tenant."""
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the site: add a module, list it in `dashboard.pages.PAGES`, and navigation and routing know it.

    `layout` gets the URL's query string and may not read any data: callbacks do, so that the page shows at once.
    """

    path: str
    title: str
    layout: Callable[[PageContext, str], Element]
    register: Callable[[Dash, PageContext], None]
