"""The app factory: one Dash site on a Flask server, with its navigation, security headers and health check."""

import logging
import time
from collections.abc import Callable

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, set_props
from flask import Flask, Response

from dashboard import ids
from dashboard.components import notice
from dashboard.config import DashboardConfig, require_guarded
from dashboard.elements import Element, aria
from dashboard.pages import PAGES, Page, PageContext
from dashboard.security import add_security_headers
from modelpilot.analytics import DashboardReader

log = logging.getLogger(__name__)

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def create_app(reader: DashboardReader, config: DashboardConfig, clock: Callable[[], float] = time.time) -> Dash:
    """Build the site. Raises UnprotectedDashboard where it would be open to more than the operator."""
    require_guarded(config)
    context = PageContext(reader, config, clock)
    app = Dash(
        "dashboard",
        title="ModelPilot",
        update_title="",
        index_string=INDEX,
        serve_locally=True,
        on_error=_report_error,
        enable_mcp=False,
    )
    app.layout = _shell
    every_page = [page.layout(context, "") for page in PAGES]
    app.validation_layout = html.Div([_shell(), *every_page])  # type: ignore[assignment] # Dash declares None only
    _register_routing(app, context)
    for page in PAGES:
        page.register(app, context)
    _set_up_server(app, config)
    return app


def _set_up_server(app: Dash, config: DashboardConfig) -> None:
    server: Flask = app.server
    server.config["TRUSTED_HOSTS"] = config.accepted_hosts
    server.add_url_rule("/healthz", "healthz", lambda: Response("ok\n", mimetype="text/plain"))
    add_security_headers(server, app.csp_hashes())


def _register_routing(app: Dash, context: PageContext) -> None:
    @app.callback(
        Output(ids.PAGE, "children"),
        Output(ids.NAVIGATION, "children"),
        Input(ids.URL, "pathname"),
        State(ids.URL, "search"),
    )
    def show_page(path: str, search: str) -> tuple[Element, list[Element]]:
        """The page of a path, with its entry in the navigation marked."""
        found = next((page for page in PAGES if page.path == path), None)
        content = found.layout(context, search) if found else _no_such_page()
        return content, [_navigation_link(page, page is found) for page in PAGES]


def _shell() -> Element:
    brand = dmc.Text("ModelPilot", fw=700, size="lg")
    toggle = dmc.ColorSchemeToggle(
        id=ids.COLOR_SCHEME,
        lightIcon="Dark",  # shown in the light scheme: it names what a click brings
        darkIcon="Light",
        variant="default",
        w="auto",
        px="xs",
        fz="sm",
        **aria(label="Switch between light and dark"),
    )
    header = dmc.Group(
        [brand, html.Nav(id=ids.NAVIGATION, className="mp-navigation", **aria(label="Pages")), toggle],
        className="mp-header",
        wrap="nowrap",
    )
    return dmc.MantineProvider(
        [
            dcc.Location(id=ids.URL, refresh="callback-nav"),
            html.Header(header),
            html.Main(dmc.Container(id=ids.PAGE, size="xl", py="md", px={"base": "xs", "sm": "md"})),
        ],
        defaultColorScheme="auto",
    )


def _navigation_link(page: Page, current: bool) -> Element:
    marker = aria(current="page") if current else {}
    return dmc.Anchor(page.title, href=page.path, className="mp-navigation-link", **marker)


def _no_such_page() -> Element:
    return notice("No such page", dcc.Link("Go to the overview", href="/"), color="blue")


def _report_error(error: Exception) -> None:
    # The visitor learns that something is wrong, and where the operator finds what; never the error itself.
    log.error("A dashboard callback failed", exc_info=error)
    message = "The reason is in the log of the dashboard process."
    set_props(ids.NOTICE, {"children": notice("This page could not be updated", message, color="red")})
