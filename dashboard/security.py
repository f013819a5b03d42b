"""Response headers of the site. Everything it needs comes from itself, so the policy allows nothing else."""

from collections.abc import Sequence

from flask import Flask, Response, request


def content_security_policy(script_hashes: Sequence[str]) -> str:
    """The Content-Security-Policy. `script_hashes` allow Dash's inline start script and nothing beside it.

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
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    def add(response: Response) -> Response:
        response.headers.update(headers)
        # Scripts and styles say themselves how long they last; what shows data must not outlive a logout.
        if not request.path.startswith(("/assets/", "/_dash-component-suites/")):
            response.headers["Cache-Control"] = "no-store"
        return response

    server.after_request(add)
