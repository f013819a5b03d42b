"""The pages of the site, in the order of the navigation."""

from dashboard.frame.page import Page
from dashboard.pages import (
    explore,
    frontier,
    jobs,
    models,
    overview,
    request_detail,
    requests,
    router_detail,
    routers,
    what_if,
)

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    explore.PAGE,
    requests.PAGE,
    request_detail.PAGE,
    routers.PAGE,
    router_detail.PAGE,
    what_if.PAGE,
    frontier.PAGE,
    models.PAGE,
    jobs.PAGE,
)
