"""Links: out of the site, and from a figure to the rows behind it."""

from urllib.parse import quote

from dash import Dash, Input, Output

from dashboard.config import DashboardConfig
from dashboard.frame.elements import in_browser
from dashboard.frame.frame import Frame
from dashboard.frame.ranges import moment_in_url
from dashboard.frame.urls import link

REQUESTS_PATH, REQUEST_PATH = "/requests", "/requests/detail"


def workflow_url(config: DashboardConfig, workflow_id: str) -> str | None:
    """The workflow in the Temporal Web UI, or None where no UI is configured. Workflow ids contain slashes."""
    if not config.temporal_ui_url:
        return None
    base = config.temporal_ui_url.rstrip("/")
    return f"{base}/namespaces/{quote(config.temporal_namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"


def requests_link(search: str, span: tuple[float, float] | None = None, **filters: str | None) -> str:
    """The list of requests behind a figure: the same range (or `span`, Unix seconds) and viewer, and these filters."""
    if span is None:
        return link(REQUESTS_PATH, search, **filters)
    start, end = (moment_in_url(moment) for moment in span)
    return link(REQUESTS_PATH, search, range=None, from_=start, to=end, **filters)


def detail_link(search: str, request_id: str, owner: str | None) -> str:
    """The page of one request, with the range and the viewer of this one."""
    return link(REQUEST_PATH, search, id=request_id, owner=owner)


def follow_points(app: Dash, frame: Frame, graph_id: str) -> None:
    """A click on a point of this chart opens the link that its `customdata` is, or ends with."""
    in_browser(app, "follow", Output(frame.id("url"), "href"), Input(graph_id, "clickData"), at_start=False)
