"""The app factory: one Dash site on a Flask server, with its login, security headers and health check."""

import logging
import time
from collections.abc import Callable

import flask
from dash import Dash, html, set_props
from flask import Flask, Response

from dashboard import ids
from dashboard.access import HEALTH_PATH, Gate, form_token
from dashboard.config import DashboardConfig
from dashboard.elements import Element
from dashboard.login_page import LoginPages
from dashboard.logins import Logins
from dashboard.notices import notice
from dashboard.pages import PAGES, PageContext
from dashboard.readers import Readers
from dashboard.security import add_security_headers
from dashboard.shell import page_at, register_shell, shell
from modelpilot.management.site import PasswordHasher, SiteAccess

log = logging.getLogger(__name__)

_MOST_BODY_BYTES = 4 * 2**20  # callbacks post what a page's controls hold

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def create_app(
    readers: Readers,
    access: SiteAccess,
    hasher: PasswordHasher,
    config: DashboardConfig,
    clock: Callable[[], float] = time.time,
) -> Dash:
    """Build the site."""
    context = PageContext(readers, config, clock)
    app = Dash(
        "dashboard",
        title="ModelPilot",
        update_title="",
        index_string=INDEX,
        serve_locally=True,
        assets_ignore=r"login\..*",  # the login page's own
        on_error=_report_error,
        enable_mcp=False,
    )
    every_page = [page.layout(context, "") for page in PAGES]
    app.layout = lambda: _layout(config)
    app.validation_layout = html.Div([shell(), *every_page])  # type: ignore[assignment] # Dash declares None only
    register_shell(app, context)
    for page in PAGES:
        page.register(app, context)
    _set_up_server(app, config, Logins(access, hasher))
    return app


def _layout(config: DashboardConfig) -> Element:
    # Dash also asks by itself, when it starts and before the first request is let in: then nobody is there yet.
    if not flask.has_request_context() or "visitor" not in flask.g:
        return shell()
    return shell(form_token(config), flask.g.visitor)


def _set_up_server(app: Dash, config: DashboardConfig, logins: Logins) -> None:
    server: Flask = app.server
    server.config["TRUSTED_HOSTS"] = config.accepted_hosts
    server.config["MAX_CONTENT_LENGTH"] = _MOST_BODY_BYTES
    server.add_url_rule(HEALTH_PATH, "healthz", lambda: Response("ok\n", mimetype="text/plain"))
    gate = Gate(config, logins)
    gate.install(server)
    LoginPages(config, logins, gate).install(server)
    server.after_request(_not_found)
    add_security_headers(server, app.csp_hashes())


def _not_found(response: Response) -> Response:
    # Dash answers every path with the site, which then shows that there is no such page; programs want the status.
    request = flask.request
    if request.endpoint == "/<path:path>" and response.status_code == 200 and page_at(request.path) is None:
        response.status_code = 404
    return response


def _report_error(error: Exception) -> None:
    # The visitor learns that something is wrong, and where the operator finds what; never the error itself.
    log.error("A dashboard callback failed", exc_info=error)
    message = "The reason is in the log of the dashboard process."
    set_props(ids.BANNER, {"children": notice("This page could not be updated", message, color="red")})
