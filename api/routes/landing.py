"""`GET /`: where to go from here, as a page for browsers and as JSON for everybody else."""

import base64
import hashlib
import re
from html import escape

from aiohttp import hdrs, web
from pydantic import BaseModel

from api.http.registry import RouteSpec
from api.http.responses import json_response
from api.services import SERVICES

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8884 }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {"content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'"}
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:\d+)?")
# README's first steps; the address is the one that this page was asked for under.
_STEPS = """curl -s {origin}/router/demo \\
  -H "Authorization: Bearer $(cat .modelpilot/admin.key)" \\
  -H 'Content-Type: application/json' \\
  -d '{{"messages": [{{"role": "user", "content": "What is 12 * 7?"}}]}}'"""


class Links(BaseModel):
    """Where things are; `site` is null where no analytics site is configured."""

    reference: str = "/docs"
    openapi: str = "/openapi.json"
    models: str = "/v1/models"
    ready: str = "/readyz"
    site: str | None


class Landing(BaseModel):
    """What answers here."""

    name: str = "ModelPilot"
    links: Links


def routes() -> list[RouteSpec]:
    """The route of this module."""
    return [
        RouteSpec("GET", "/", _land, "public", "Links to the site and this reference", "documentation", None, Landing)
    ]


async def _land(request: web.Request) -> web.StreamResponse:
    landing = Landing(links=Links(site=request.app[SERVICES].site_url))
    headers = {"vary": "accept"}
    if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        return json_response(landing.model_dump(), headers=headers)
    host = request.host if _HOST.fullmatch(request.host) else "HOST"
    page = render(landing.links, f"{request.scheme}://{host}")
    return web.Response(text=page, content_type="text/html", headers={**_HEADERS, **headers})


def render(links: Links, origin: str) -> str:
    """The page: the links, and a first request."""
    site = [("Analytics site", links.site, "requests, spending, latency")] if links.site else []
    shown = [
        *site,
        ("API reference", links.reference, "every route of this gateway"),
        ("OpenAPI document", links.openapi, "the same for programs"),
        ("Readiness", links.ready, "whether it can serve"),
    ]
    items = "".join(f'<li><a href="{escape(url)}">{name}</a>: {what}</li>' for name, url, what in shown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ModelPilot</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>ModelPilot</h1><p>This is the gateway of an LLM router.</p><ul>{items}</ul>"
        "<h2>First steps</h2><p>Send a first request to the router <code>demo</code>:</p>"
        f"<pre>{escape(_STEPS.format(origin=origin))}</pre>"
        f"<p>OpenAI's clients take the base URL <code>{escape(origin)}/v1</code>, Anthropic's and Google's "
        f"<code>{escape(origin)}</code>, and any of them the model <code>router/demo</code>.</p></body></html>"
    )
