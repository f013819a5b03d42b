"""JSON answers: orjson where it can, the standard library where only that is faithful."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def json_bytes(data: Any) -> bytes:
    """UTF-8 JSON. Lone surrogates, which UTF-8 cannot carry, come out as the `\\ud800` escapes that they came in as."""
    try:
        return orjson.dumps(data)
    except TypeError:  # orjson refuses lone surrogates and integers over 64 bits; the standard library does not
        return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def json_response(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A complete JSON answer."""
    return web.Response(body=json_bytes(data), status=status, headers=headers, content_type="application/json")
