"""The site as a whole: a Dash app on a Flask server with login, security headers and health check, and its serving."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import flask
from dash import Dash, html, set_props
from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import WSGIRequestHandler, make_server

from dashboard.access import HEALTH_PATH, Gate, Logins, form_token, is_trustworthy
from dashboard.config import DashboardConfig
from dashboard.frame.elements import Element, notice
from dashboard.frame.page import PageContext
from dashboard.login_page import LoginPages
from dashboard.pages import PAGES
from dashboard.shell import BANNER, page_at, register_shell, shell
from modelpilot.management.site import PasswordHasher, SiteAccess
from modelpilot.metrics.ports import SiteReader, Workbench

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

# How long a visitor's connection may be silent, and how often the accept loop looks whether it should end.
SOCKET_TIMEOUT_S, POLL_S = 30.0, 0.1
_MOST_BODY_BYTES = 4 * 2**20  # callbacks post what a page's controls hold

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def create_app(
    reader: SiteReader,
    workbench: Workbench,
    access: SiteAccess,
    hasher: PasswordHasher,
    config: DashboardConfig,
    clock: Callable[[], float] = time.time,
) -> Dash:
    """Build the site."""
    context = PageContext(reader, workbench, config, clock)
    app = Dash(
        "dashboard",
        title="ModelPilot",
        update_title="",
        index_string=INDEX,
        serve_locally=True,
        assets_ignore=r"login\..*",  # the login page's own
        on_error=_report_error,
        enable_mcp=False,
        requests_pathname_prefix=config.prefix,
        routes_pathname_prefix="/",  # `_Mounted` takes the prefix away
    )
    every_page = [page.layout(context, "") for page in PAGES]
    app.layout = lambda: _layout(config)
    app.validation_layout = html.Div([shell(), *every_page])  # type: ignore[assignment] # Dash declares None only
    register_shell(app, context)
    for page in PAGES:
        page.register(app, context)
    _set_up_server(app, config, Logins(access, hasher))
    return app


@contextmanager
def serving(app: Dash, host: str, port: int) -> Iterator[int]:
    """Serve at one address in background threads inside the block; yields the bound port (0 asks for a free one).
    Raises OSError, whose `filename` is the address.

    Werkzeug's threaded server is enough for tens of people, and adds no dependency (docs/adr/0013-site-login.md).
    Leaving the block stops accepting and closes the port; a request that still runs is cut off, since it only reads.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Bound here, since Werkzeug prints and exits the process where a port is taken.
    with _bound(host, port, family) as listener:
        server = make_server(
            host, port, app.server, threaded=True, request_handler=_RequestHandler, fd=listener.fileno()
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_S}, name="dashboard")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def _bound(host: str, port: int, family: socket.AddressFamily) -> socket.socket:
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(error.errno, error.strerror, host) from error


def serve(app: Dash, hosts: str, port: int, stop: threading.Event, on_ready: Callable[[str], None]) -> None:
    """Serve at one address, or at several separated by commas, until `stop` is set; `on_ready` gets the URL of each
    once its port answers. Raises OSError."""
    with ExitStack() as stack:
        for host in hosts.split(","):
            bound_port = stack.enter_context(serving(app, host, port))
            on_ready(f"http://{f'[{host}]' if ':' in host else host}:{bound_port}")
        stop.wait()


def content_security_policy(script_hashes: Sequence[str]) -> str:
    """The Content-Security-Policy. The site needs nothing that is not its own, so nothing else is allowed.

    `script_hashes` allow Dash's inline start script and nothing beside it.
    Styles may be inline: Mantine, Plotly and AG Grid write <style> elements and style attributes at run time and take
    no nonce through Dash. Forms go to this site only: login and logout.
    """
    directives = {
        "default-src": "'self'",
        "script-src": " ".join(("'self'", *script_hashes)),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def add_security_headers(server: Flask, script_hashes: Sequence[str]) -> None:
    """Put the security headers on every response of the server."""
    headers = {
        "Content-Security-Policy": content_security_policy(script_hashes),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # With "no-referrer" browsers give the site's own forms the Origin "null", like those of a stranger.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def add(response: Response) -> Response:
        response.headers.update(headers)
        if is_trustworthy():  # elsewhere browsers ignore it, and complain in their console
            response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        # Scripts and styles say themselves how long they last; what shows data must not outlive a logout.
        if not request.path.startswith(("/assets/", "/_dash-component-suites/")):
            response.headers["Cache-Control"] = "no-store"
        return response

    server.after_request(add)


def _layout(config: DashboardConfig) -> Element:
    # Dash also asks by itself, when it starts and before the first request is let in: then nobody is there yet.
    if not flask.has_request_context() or "visitor" not in flask.g:
        return shell()
    return shell(form_token(config), flask.g.visitor)


def _set_up_server(app: Dash, config: DashboardConfig, logins: Logins) -> None:
    server: Flask = app.server
    server.config["MAX_CONTENT_LENGTH"] = _MOST_BODY_BYTES
    server.add_url_rule(HEALTH_PATH, "healthz", lambda: Response("ok\n", mimetype="text/plain"))
    gate = Gate(config, logins)
    gate.install(server)
    LoginPages(config, logins, gate).install(server)
    server.after_request(_not_found)
    add_security_headers(server, app.csp_hashes())
    server.wsgi_app = _Mounted(server.wsgi_app, config)  # type: ignore[method-assign] # as Flask's documentation does it


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
    set_props(BANNER, {"children": notice("This page could not be updated", message, color="red")})


class _Mounted:
    """The site where browsers see it: below its prefix, which a proxy may have taken away or not, and as what a
    trusted proxy says of the visitor's address, scheme and Host."""

    def __init__(self, application: "WSGIApplication", config: DashboardConfig) -> None:
        self._application, self._config = application, config
        self._behind_proxy = ProxyFix(application, x_for=1, x_proto=1, x_host=1)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        prefix, path = self._config.prefix.rstrip("/"), str(environ.get("PATH_INFO", ""))
        if prefix:
            environ["SCRIPT_NAME"] = prefix
            if path == prefix or path.startswith(f"{prefix}/"):
                environ["PATH_INFO"] = path.removeprefix(prefix) or "/"
        trusted = self._config.trusts(environ.get("REMOTE_ADDR"))
        return (self._behind_proxy if trusted else self._application)(environ, start_response)


class _RequestHandler(WSGIRequestHandler):
    """Werkzeug's handler without its version in the headers, its own log handler, or patience without end."""

    timeout = SOCKET_TIMEOUT_S

    def version_string(self) -> str:
        return "ModelPilot"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the overridden name
        log.debug(message, *args)
