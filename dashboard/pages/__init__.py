"""The pages of the site, in the order of the navigation."""

from dashboard.pages import overview
from dashboard.pages.page import Page, PageContext

PAGES: tuple[Page, ...] = (overview.PAGE,)

__all__ = ["PAGES", "Page", "PageContext"]
