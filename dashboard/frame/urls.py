"""Addresses: the query strings that say what a page shows, links between pages, and links to Temporal's Web UI.

Everything that a page shows is said in its query string, so that reload, sharing and the back button keep it.
"""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode

import flask

from dashboard.config import DashboardConfig
from modelpilot.metrics.use import RouterUse

# Paths of the pages that others link to.
REQUESTS_PATH, REQUEST_PATH = "/requests", "/requests/detail"
ROUTERS_PATH, ROUTER_PATH = "/routers", "/routers/detail"
WHAT_IF_PATH, FRONTIER_PATH = "/what-if", "/frontier"
# What a link to another page carries along: the time range, and whose data an admin looks at.
KEPT = ("range", "from", "to", "as")


def site_path(path: str) -> str:
    """A path of the site as browsers see it: below the prefix under which the current request came."""
    return (flask.request.script_root if flask.has_request_context() else "") + path


def page_path(path: str | None) -> str:
    """The path of a page from the one that a browser has, or from the server's own; a slash at the end is none."""
    wanted, prefix = path or "", site_path("")
    if prefix and (wanted == prefix or wanted.startswith(f"{prefix}/")):
        wanted = wanted.removeprefix(prefix)
    return wanted.rstrip("/") or "/"


def query(search: str | None) -> dict[str, str]:
    """`?a=1&b=` → `{"a": "1"}`: of repeated names the last counts, empty values are none."""
    return {name: value for name, value in parse_qsl((search or "").removeprefix("?")) if value}


def search_with(search: str | None, changes: dict[str, str | None]) -> str:
    """The query string with some values replaced; None takes one away. `""` where nothing is left."""
    merged: dict[str, str | None] = {**query(search), **changes}
    left = urlencode({name: value for name, value in merged.items() if value})
    return f"?{left}" if left else ""


def moment_in_url(unix_s: float) -> str:
    """A moment as `from` and `to` have it: `2027-01-15T12:00:00Z`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def link(path: str, search: str | None, **filters: str | None) -> str:
    """Another page with the same range and viewer, and with `filters` of its own (`from_` stands for `from`)."""
    kept = {name: value for name, value in query(search).items() if name in KEPT}
    return site_path(path) + search_with("", {**kept, **{name.rstrip("_"): value for name, value in filters.items()}})


def requests_link(search: str, span: tuple[float, float] | None = None, **filters: str | None) -> str:
    """The list of requests behind a figure: the same range (or `span`, Unix seconds) and viewer, and these filters."""
    if span is None:
        return link(REQUESTS_PATH, search, **filters)
    start, end = (moment_in_url(moment) for moment in span)
    return link(REQUESTS_PATH, search, range=None, from_=start, to=end, **filters)


def detail_link(search: str, request_id: str, owner: str | None) -> str:
    """The page of one request, with the range and the viewer of this one."""
    return link(REQUEST_PATH, search, id=request_id, owner=owner)


def router_link(path: str, search: str, router: RouterUse) -> str:
    """A page about this router."""
    name = "id" if path == ROUTER_PATH else "router"
    return link(path, search, **{name: router.router_id}, owner=router.user_id)


def workflow_url(config: DashboardConfig, workflow_id: str) -> str | None:
    """The workflow in the Temporal Web UI, or None where no UI is configured. Workflow ids contain slashes."""
    return _temporal_url(config, "workflows", workflow_id)


def schedule_url(config: DashboardConfig, schedule_id: str) -> str | None:
    """The schedule in the Temporal Web UI, or None where no UI is configured."""
    return _temporal_url(config, "schedules", schedule_id)


def _temporal_url(config: DashboardConfig, kind: str, item_id: str) -> str | None:
    if not config.temporal_ui_url:
        return None
    base, namespace = config.temporal_ui_url.rstrip("/"), quote(config.temporal_namespace, safe="")
    return f"{base}/namespaces/{namespace}/{kind}/{quote(item_id, safe='')}"
