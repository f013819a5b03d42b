"""`/openapi.json`, made from the declared routes and their pydantic models, and `/docs`, a page of them.

The page needs nothing from elsewhere.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.http.registry import ROUTES, RouteSpec
from modelpilot.wire.jsonb import dump

_VERSION = "0.1.0"
_REF_TEMPLATE = "#/components/schemas/{model}"
_PATH_VARIABLE = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_STATUS_TEXT = {200: "Success", 201: "Created", 204: "Done; no body"}
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "code": {"type": "string"},
            },
        }
    },
}

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

_Schemas = Mapping[Any, dict[str, Any]]  # by (model, mode)


def build_openapi(specs: Iterable[RouteSpec], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `specs`."""
    routes = list(specs)
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for spec in routes:
        paths.setdefault(documented_path(spec.path), {})[spec.method.lower()] = _operation(spec, schemas, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ModelPilot", "version": version, "description": "An open, self-hosted LLM router."},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR_SCHEMA},
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "mp_ and 64 hex digits"}},
        },
    }


def documented_path(path: str) -> str:
    """aiohttp's `/api/models/{id:.+}` as OpenAPI's `/api/models/{id}`."""
    return _PATH_VARIABLE.sub(r"{\1}", path)


def _schemas(routes: list[RouteSpec]) -> tuple[_Schemas, dict[str, Any]]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for spec in routes:
        wanted += [(spec.request, "validation")] if spec.request else []
        wanted += [(spec.response, "serialization")] if spec.response else []
    # dict.fromkeys: each once, in order, so that the document is the same at every start.
    schemas, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REF_TEMPLATE)
    return schemas, definitions.get("$defs", {})


def _operation(spec: RouteSpec, schemas: _Schemas, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": spec.summary,
        "tags": [spec.tag],
        "operationId": _operation_id(spec),
        "parameters": _parameters(spec),
        "responses": _responses(spec, schemas),
    }
    if spec.scope != "public":
        operation["security"] = [{"apiKey": []}]
        operation["x-scope"] = spec.scope
    if spec.request is not None:
        operation["requestBody"] = _json_content(_request_schema(spec, schemas, components)) | {"required": True}
    return operation


def _request_schema(spec: RouteSpec, schemas: _Schemas, components: dict[str, Any]) -> dict[str, Any]:
    """The body's schema. In a PUT the id is in the path: the body may leave it out."""
    schema: dict[str, Any] = schemas[spec.request, "validation"]
    if spec.method != "PUT":
        return schema
    body: dict[str, Any] = components[schema["$ref"].rpartition("/")[2]]
    return body | {"required": [name for name in body.get("required", ()) if name != "id"]}


def _operation_id(spec: RouteSpec) -> str:
    words = re.findall(r"\w+", documented_path(spec.path))
    return "_".join([spec.method.lower(), *words])


def _parameters(spec: RouteSpec) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_VARIABLE.findall(spec.path)
    ]
    in_query = [
        {"name": item.name, "in": "query", "description": item.description, "schema": {"type": item.type}}
        for item in spec.query
    ]
    return in_path + in_query


def _responses(spec: RouteSpec, schemas: _Schemas) -> dict[str, Any]:
    success: dict[str, Any] = {"description": _STATUS_TEXT.get(spec.status, "Success")}
    if spec.response is not None:
        success |= _json_content(schemas[spec.response, "serialization"])
    elif spec.status != 204:
        success["content"] = {spec.media_type: {"schema": {"type": "string"}}}
    error = {"description": "An error"} | _json_content({"$ref": "#/components/schemas/Error"})
    return {str(spec.status): success, "default": error}


def _json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


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
        cached.append(dump(build_openapi(request.app[ROUTES].specs(), _VERSION)))
    return web.Response(body=cached[0], content_type="application/json")


async def _docs(request: web.Request) -> web.StreamResponse:
    page = render_page(request.app[ROUTES].specs(), _VERSION)
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
