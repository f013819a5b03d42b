"""`/openapi.json`, made from the declared routes and their pydantic models."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from api.registry import RouteSpec

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
