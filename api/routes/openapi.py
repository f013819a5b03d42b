"""`/openapi.json` and `/docs`, a page of it that needs nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from itertools import groupby

from aiohttp import web

from api.openapi import build_openapi, documented_path
from api.registry import ROUTES, RouteSpec
from api.responses import json_bytes
from api.services import SERVICES

_DOCUMENT: web.AppKey[list[bytes]] = web.AppKey("openapi_document", list)

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { width: 100%; border-collapse: collapse }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #8884; vertical-align: top }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {"content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'"}


def routes() -> list[RouteSpec]:
    """The routes of this module."""
    return [
        RouteSpec("GET", "/openapi.json", _openapi, "public", "This description, as OpenAPI 3.1", "documentation"),
        RouteSpec("GET", "/docs", _docs, "public", "The same as a page", "documentation", media_type="text/html"),
    ]


def prepare(app: web.Application) -> None:
    """Make room for the document, which is built on first use: until then routes may still be added."""
    app[_DOCUMENT] = []


async def _openapi(request: web.Request) -> web.StreamResponse:
    cached = request.app[_DOCUMENT]
    if not cached:
        cached.append(json_bytes(build_openapi(request.app[ROUTES].specs(), request.app[SERVICES].version)))
    return web.Response(body=cached[0], content_type="application/json")


async def _docs(request: web.Request) -> web.StreamResponse:
    page = render_page(request.app[ROUTES].specs(), request.app[SERVICES].version)
    return web.Response(text=page, content_type="text/html", headers=_HEADERS)


def render_page(specs: Iterable[RouteSpec], version: str) -> str:
    """The routes as HTML, grouped by tag."""
    ordered = sorted(specs, key=lambda spec: (spec.tag, spec.path, spec.method))
    sections = "".join(_section(tag, group) for tag, group in groupby(ordered, key=lambda spec: spec.tag))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ModelPilot API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>ModelPilot API {escape(version)}</h1>"
        '<p>Schemas of all bodies: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"{sections}</body></html>"
    )


def _section(tag: str, specs: Iterable[RouteSpec]) -> str:
    rows = "".join(_row(spec) for spec in specs)
    head = "<tr><th scope=col>Route</th><th scope=col>Does</th><th scope=col>Scope</th></tr>"
    return f"<h2>{escape(tag)}</h2><table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _row(spec: RouteSpec) -> str:
    route = f"<code>{escape(spec.method)} {escape(documented_path(spec.path))}</code>"
    return f"<tr><td>{route}</td><td>{escape(spec.summary)}</td><td>{escape(spec.scope)}</td></tr>"
