"""The login page: plain HTML and a form, no script needed. And logging out."""

import math
import secrets
from html import escape

from flask import Flask, Response, request

from dashboard.access import (
    LOGIN_PATH,
    LOGOUT_PATH,
    Gate,
    Logins,
    drop_session,
    form_token,
    has_secure_cookies,
    is_trustworthy,
    keep_session,
    plain,
    same,
    session_token,
)
from dashboard.config import DashboardConfig
from dashboard.frame.urls import site_path
from modelpilot.errors import DependencyUnavailable
from modelpilot.management.site import TooManyAttempts, WrongCredentials

_FORM_LIFETIME_S = 3_600

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · ModelPilot</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}/assets/login.css">
<script src="{root}/assets/login.js"></script>
</head>
<body>
<main>
<h1>ModelPilot</h1>
{message}
{form}
</main>
</body>
</html>
"""
_FORM = """<form method="post" action="{action}">
<input type="hidden" name="csrf" value="{csrf}">
<input type="hidden" name="next" value="{next}">
<label for="username">User name</label>
<input id="username" name="username" value="{username}" autocomplete="username" autocapitalize="none"
 spellcheck="false" maxlength="200" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Log in</button>
</form>"""
_NEEDS_HTTPS = (
    '<p role="alert">This site needs HTTPS: in production browsers keep a login only where the connection is safe, and '
    "this page came over plain HTTP. Open it at an address that begins with <code>https://</code>.</p>"
    "<p>If there is none yet, put a TLS proxy in front of the site. If this is one, name its address in "
    "<code>MODELPILOT_DASHBOARD_TRUSTED_PROXIES</code> and let it send <code>X-Forwarded-Proto</code>.</p>"
)
_FIRST_USER = (
    "<p>There are no users yet. Make one on the machine that runs ModelPilot:</p>"
    "<pre>modelpilot users add NAME --admin</pre>"
)


class LoginPages:
    """The routes `/login` and `/logout` of one site."""

    def __init__(self, config: DashboardConfig, logins: Logins, gate: Gate) -> None:
        self._config, self._logins, self._gate = config, logins, gate

    def install(self, server: Flask) -> None:
        """Add the routes."""
        server.add_url_rule(LOGIN_PATH, "login", self.login, methods=["GET", "POST"])
        server.add_url_rule(LOGOUT_PATH, "logout", self.logout, methods=["POST"])

    def login(self) -> Response:
        """The form, and what it sends."""
        try:
            if self._config.production and not is_trustworthy() and self._gate.login_required():
                return self._refusal()
            if request.method == "POST":
                return self._log_in()
            if self._gate.visitor() is not None:
                return _to(_local(request.args.get("next")))
            return self._form(_local(request.args.get("next")))
        except DependencyUnavailable as error:
            return plain(f"{error.message} Try again in a moment.", 503)

    def logout(self) -> Response:
        """End the session."""
        token = session_token(self._config)
        if not same(request.form.get("csrf"), form_token(self._config)):
            return plain("This form has expired: go back, reload the page and try again.", 403)
        try:
            self._logins.log_out(token or "")
        except DependencyUnavailable as error:
            return plain(f"{error.message} You are still logged in.", 503)
        response = _to(site_path(LOGIN_PATH))
        drop_session(response, self._config)
        return response

    def _log_in(self) -> Response:
        form = request.form
        wanted, username = _local(form.get("next")), form.get("username", "")
        if not same(form.get("csrf"), request.cookies.get(self._form_cookie)):
            return self._form(wanted, "The form had expired. Please try again.", username, status=403)
        try:
            token = self._logins.log_in(username, form.get("password", ""), request.remote_addr or "")
        except WrongCredentials as error:
            return self._form(wanted, error.message, username, status=401)
        except TooManyAttempts as error:
            minutes = math.ceil((error.retry_after_s or 60.0) / 60.0)
            message = f"Too many attempts. Try again in {minutes} minute{'s' * (minutes > 1)}."
            response = self._form(wanted, message, username, status=429)
            response.headers["Retry-After"] = str(math.ceil(error.retry_after_s or 60.0))
            return response
        self._end_earlier_session()
        response = _to(wanted)
        keep_session(response, self._config, token)
        response.delete_cookie(self._form_cookie, path=site_path(LOGIN_PATH), secure=has_secure_cookies(self._config))
        return response

    def _end_earlier_session(self) -> None:
        earlier = session_token(self._config)
        if earlier:
            self._logins.log_out(earlier)

    @property
    def _form_cookie(self) -> str:
        return "__Secure-mp_login" if has_secure_cookies(self._config) else "mp_login"

    def _refusal(self) -> Response:
        # The browser would drop the cookie of a login, and ask for it over and over.
        text = _PAGE.format(root=site_path(""), message=_NEEDS_HTTPS, form="")
        return Response(text, 403 if request.method == "POST" else 200, mimetype="text/html")

    def _form(self, wanted: str, problem: str = "", username: str = "", status: int = 200) -> Response:
        message = f'<p role="alert">{escape(problem)}</p>' if problem else ""
        if not self._logins.has_users():
            message = _FIRST_USER
        # The same value in a cookie, which another site can neither read nor set, and in the form.
        csrf = secrets.token_urlsafe(24)
        form = _FORM.format(action=site_path(LOGIN_PATH), csrf=csrf, next=escape(wanted), username=escape(username))
        text = _PAGE.format(root=site_path(""), message=message, form=form)
        response = Response(text, status, mimetype="text/html")
        response.set_cookie(
            self._form_cookie,
            csrf,
            max_age=_FORM_LIFETIME_S,
            httponly=True,
            secure=has_secure_cookies(self._config),
            samesite="Strict",
            path=site_path(LOGIN_PATH),
        )
        return response


def _local(wanted: str | None) -> str:
    """A path of this site. Anything that a browser could read as another site's address becomes the overview."""
    root = site_path("")
    path = (wanted or "").removeprefix(root)
    if not wanted or not wanted.startswith(f"{root}/") or path.startswith(("//", "/\\", LOGIN_PATH, LOGOUT_PATH)):
        return f"{root}/"
    return wanted if wanted.isprintable() and "\\" not in wanted else f"{root}/"


def _to(path: str) -> Response:
    return Response(status=303, headers={"Location": path})
