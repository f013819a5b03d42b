"""Who gets in: logins with their sessions, and the gate where every request is stopped first.

The gate stands in front of pages, their data and every callback; few paths are open to all.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import flask
from flask import Flask, Response, request

from dashboard.config import DashboardConfig, host_name, is_loopback
from dashboard.frame.urls import site_path
from modelpilot.errors import DependencyUnavailable, InvalidRequest
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.management.site import (
    LIFETIME_S,
    MAX_PASSWORD_CHARS,
    Credentials,
    PasswordHasher,
    SiteAccess,
    TooManyAttempts,
    Visitor,
    WrongCredentials,
    normalized_username,
)

LOGIN_PATH, LOGOUT_PATH, HEALTH_PATH = "/login", "/logout", "/healthz"
# What the login page itself needs. Everything that is not named here needs a session.
OPEN_PATHS = frozenset({LOGIN_PATH, HEALTH_PATH, "/assets/login.css", "/assets/login.js", "/_favicon.ico"})
# The only visitor of a site without a login.
OPERATOR = Visitor(None, OPERATOR_USER, "admin")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Wrong passwords in a quarter of an hour. The second is higher since a whole office may share an address.
ATTEMPTS_PER_USERNAME, ATTEMPTS_PER_ADDRESS = 10, 50
WINDOW_S = 900.0
# How long a session stays good while Postgres cannot be asked: long enough for a restart, and what the pages read
# then is nothing but their own notice that the database is away.
_TRUST_WITHOUT_DATABASE_S = 600.0
_MOST_REMEMBERED = 1_000
_TOKEN_BYTES = 32


class Logins:
    """Passwords against hashes and tokens against sessions, with a brake on guesses. May be used from many threads."""

    def __init__(self, access: SiteAccess, hasher: PasswordHasher, clock: Callable[[], float] = time.monotonic) -> None:
        self._access, self._hasher, self._clock = access, hasher, clock
        # Compared with where a user is unknown, so that this takes as long as a wrong password does.
        self._nobodys_hash = hasher.hash(secrets.token_urlsafe())
        self._lock = threading.Lock()
        self._seen: dict[bytes, tuple[Visitor, float]] = {}
        self._has_users: bool | None = None

    def has_users(self) -> bool:
        """Whether the site has users; while the database is away, what it said last. Raises DependencyUnavailable."""
        try:
            self._has_users = self._access.any_user()
        except DependencyUnavailable:
            if self._has_users is None:
                raise
        return self._has_users

    def log_in(self, username: str, password: str, address: str) -> str:
        """A new session's token. Raises WrongCredentials, TooManyAttempts, DependencyUnavailable."""
        name = _known_form(username)
        keys = _key("username", name), _key("address", address)
        for key, limit in zip(keys, (ATTEMPTS_PER_USERNAME, ATTEMPTS_PER_ADDRESS), strict=True):
            wait_s = self._access.reserve_attempt(key, limit, WINDOW_S)
            if wait_s > 0:
                raise TooManyAttempts("Too many attempts. Try again later.", retry_after_s=wait_s)
        credentials = self._access.credentials(name)
        if not self._right(credentials, password):
            raise WrongCredentials("User name or password is wrong.")
        self._access.forgive_attempt(keys[0], all_of_them=True)
        self._access.forgive_attempt(keys[1], all_of_them=False)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._access.begin_session(_digest(token), name)
        return token

    def _right(self, credentials: Credentials | None, password: str) -> bool:
        stored = credentials.password_hash if credentials else self._nobodys_hash
        matches = self._hasher.matches(stored, password[:MAX_PASSWORD_CHARS])
        return matches and credentials is not None and credentials.user.active

    def log_out(self, token: str) -> None:
        """End the session everywhere. Raises DependencyUnavailable."""
        with self._lock:
            self._seen.pop(_digest(token), None)
        self._access.end_session(_digest(token))

    def visitor(self, token: str | None) -> Visitor | None:
        """Who holds this token, None for nobody. Raises DependencyUnavailable."""
        if not token:
            return None
        digest = _digest(token)
        try:
            visitor = self._access.visitor(digest)
        except DependencyUnavailable:
            remembered = self._remembered(digest)
            if remembered is None:
                raise
            return remembered
        self._remember(digest, visitor)
        return visitor

    def _remembered(self, digest: bytes) -> Visitor | None:
        with self._lock:
            visitor, seen_at = self._seen.get(digest, (None, 0.0))
        return visitor if self._clock() - seen_at < _TRUST_WITHOUT_DATABASE_S else None

    def _remember(self, digest: bytes, visitor: Visitor | None) -> None:
        with self._lock:
            self._seen.pop(digest, None)
            if visitor is not None:
                self._seen[digest] = visitor, self._clock()
            while len(self._seen) > _MOST_REMEMBERED:
                self._seen.pop(next(iter(self._seen)))


class Gate:
    """Decides for each request of one site."""

    def __init__(self, config: DashboardConfig, logins: Logins) -> None:
        self._config, self._logins = config, logins

    def install(self, server: Flask) -> None:
        """Stand in front of every route of the server."""
        server.before_request(self.check)

    def check(self) -> Response | None:
        """Let the request pass (None) with its visitor in `flask.g`, or answer it here."""
        if not self._config.accepts(request.host):
            return plain("This site answers to the host names that MODELPILOT_DASHBOARD_TRUSTED_HOSTS gives it.", 400)
        if request.method not in _SAFE_METHODS and is_foreign():
            advice = "If it does not, the proxy in front of this site has to pass on the Host header as it came."
            return plain(f"This request comes from another site. {advice}", 403)
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
    """Whether a browser says that another site made it send this. Programs that are no browsers say nothing.

    Over plain HTTP browsers send no `Sec-Fetch-Site` (but to this machine), and the Origin alone has to tell. It is
    "null" for forms of a page without referrer, hence the site's own Referrer-Policy (`dashboard.app`).
    """
    fetched_from = request.headers.get("Sec-Fetch-Site")
    if fetched_from is not None:
        return fetched_from not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != request.host.lower()
    except ValueError:
        return True


def is_trustworthy() -> bool:
    """Whether the browser counts this site as safe, hence keeps its Secure cookies: HTTPS, or this machine.

    Behind a TLS proxy that nobody said to trust, `Sec-Fetch-Site` tells: browsers send it to safe sites only.
    """
    return request.is_secure or "Sec-Fetch-Site" in request.headers or is_loopback(host_name(request.host))


def has_secure_cookies(config: DashboardConfig) -> bool:
    """Whether the cookies of this answer are for HTTPS only (and for this machine, which browsers count as safe)."""
    return config.production or (bool(config.trusted_proxies) and request.is_secure)


def csrf_token(token: str) -> str:
    """What forms of a session carry: only its holder can know it, and it says nothing about the token."""
    return hashlib.sha256(b"csrf:" + token.encode()).hexdigest()


def session_cookie(config: DashboardConfig) -> str:
    """The cookie's name. `__Host-` makes browsers insist on Secure, on this very host and on the whole of it;
    `__Secure-`, for a site below a path, on the first of these."""
    if not has_secure_cookies(config):
        return "mp_session"
    return "__Host-mp_session" if config.prefix == "/" else "__Secure-mp_session"


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
        secure=has_secure_cookies(config),
        samesite="Lax",
        path=site_path("") or "/",
    )


def drop_session(response: Response, config: DashboardConfig) -> None:
    """Take the token away from the browser."""
    response.delete_cookie(
        session_cookie(config),
        httponly=True,
        secure=has_secure_cookies(config),
        samesite="Lax",
        path=site_path("") or "/",
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
    wanted = quote(site_path(request.full_path.rstrip("?")), safe="")
    return Response(status=303, headers={"Location": f"{site_path(LOGIN_PATH)}?next={wanted}"})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _key(kind: str, value: str) -> bytes:
    return hashlib.sha256(f"{kind}:{value}".encode("utf-8", "surrogatepass")).digest()


def _known_form(username: str) -> str:
    # A name that cannot exist takes the same way as one that does not.
    try:
        return normalized_username(username)
    except InvalidRequest:
        return ""
