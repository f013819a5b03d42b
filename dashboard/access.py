"""Who gets in. Every request is stopped here first: pages, their data and every callback; few paths are open to all."""

import hmac
from urllib.parse import quote, urlsplit

import flask
from flask import Flask, Response, request

from dashboard.config import DashboardConfig
from dashboard.logins import Logins, csrf_token
from modelpilot.errors import DependencyUnavailable
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.management.site import LIFETIME_S, Visitor

LOGIN_PATH, LOGOUT_PATH, HEALTH_PATH = "/login", "/logout", "/healthz"
# What the login page itself needs. Everything that is not named here needs a session.
OPEN_PATHS = frozenset({LOGIN_PATH, HEALTH_PATH, "/assets/login.css", "/assets/login.js", "/_favicon.ico"})
# The only visitor of a site without a login.
OPERATOR = Visitor(None, OPERATOR_USER, "admin")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Decides for each request of one site."""

    def __init__(self, config: DashboardConfig, logins: Logins) -> None:
        self._config, self._logins = config, logins

    def install(self, server: Flask) -> None:
        """Stand in front of every route of the server."""
        server.before_request(self.check)

    def check(self) -> Response | None:
        """Let the request pass (None) with its visitor in `flask.g`, or answer it here."""
        if request.method not in _SAFE_METHODS and is_foreign():
            return plain("This request comes from another site.", 403)
        if request.path in OPEN_PATHS:
            return None
        try:
            visitor = self.visitor()
        except DependencyUnavailable as error:
            return plain(f"{error.message} Reload this page in a moment.", 503)
        if visitor is None:
            return _to_login()
        flask.g.visitor = visitor
        return None

    def visitor(self) -> Visitor | None:
        """Who sends the current request; None: somebody who has to log in. Raises DependencyUnavailable."""
        if self.login_required():
            return self._logins.visitor(session_token(self._config))
        return OPERATOR

    def login_required(self) -> bool:
        """Whether this site asks who is there. Raises DependencyUnavailable."""
        return self._config.login_required or self._logins.has_users()


def is_foreign() -> bool:
    """Whether a browser says that another site made it send this. Programs that are no browsers say nothing."""
    fetched_from = request.headers.get("Sec-Fetch-Site")
    if fetched_from is not None:
        return fetched_from not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def session_cookie(config: DashboardConfig) -> str:
    """The cookie's name. `__Host-` makes browsers insist on Secure, on this very host and on the whole site."""
    return "__Host-mp_session" if config.secure_cookies else "mp_session"


def session_token(config: DashboardConfig) -> str | None:
    """The token that came with the current request."""
    return request.cookies.get(session_cookie(config))


def keep_session(response: Response, config: DashboardConfig, token: str) -> None:
    """Hand the token to the browser. Lax: a link that a colleague sent opens; a post from elsewhere has no token."""
    response.set_cookie(
        session_cookie(config),
        token,
        max_age=int(LIFETIME_S),
        httponly=True,
        secure=config.secure_cookies,
        samesite="Lax",
        path="/",
    )


def drop_session(response: Response, config: DashboardConfig) -> None:
    """Take the token away from the browser."""
    response.delete_cookie(
        session_cookie(config), httponly=True, secure=config.secure_cookies, samesite="Lax", path="/"
    )


def form_token(config: DashboardConfig) -> str | None:
    """What a form of the current session has to carry; None without a session."""
    token = session_token(config)
    return csrf_token(token) if token else None


def same(given: str | None, expected: str | None) -> bool:
    """Whether both are there and equal, in constant time."""
    return bool(given and expected) and hmac.compare_digest(str(given).encode(), str(expected).encode())


def plain(message: str, status: int) -> Response:
    """A short text as an answer."""
    return Response(message + "\n", status, mimetype="text/plain")


def _to_login() -> Response:
    # A callback cannot be redirected: `assets/modelpilot.js` sees the 401 and opens the login page.
    if request.method != "GET" or request.path.startswith(("/_", "/assets/")):
        return plain("Log in first.", 401)
    wanted = quote(request.full_path.rstrip("?"), safe="")
    return Response(status=303, headers={"Location": f"{LOGIN_PATH}?next={wanted}"})
