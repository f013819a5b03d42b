"""From bytes that nobody trusts to a checked body, with an error that names the field and what was expected there."""

import re
from typing import Any, TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from api.http.errors import UnsupportedEncoding
from modelpilot.errors import InvalidRequest, MalformedBody, PayloadTooLarge
from modelpilot.wire.jsonb import load

# orjson writes at most 254 levels, and the body has to be written again for the provider.
MAX_DEPTH = 128
_MAX_REPORTED = 10
_MAX_NAME_CHARS = 200
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")

T = TypeVar("T", bound=BaseModel)


async def read_body(request: web.Request, model: type[T]) -> T:
    """The checked body of `request`. Raises what `read_json` and `validate` raise."""
    return validate(await read_json(request), model)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body of `request`.

    Raises PayloadTooLarge, UnsupportedEncoding, MalformedBody (not JSON) or InvalidRequest (not an object, too deep).
    """
    return parse_object(await read_bytes(request))


async def read_bytes(request: web.Request) -> bytes:
    """The raw body of `request`, never more than the application's limit."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding("Send the body uncompressed.", param="Content-Encoding")
    limit_bytes = request._client_max_size  # aiohttp has no public name for it on the request
    if limit_bytes and (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise _too_large(limit_bytes) from error
    except web.RequestPayloadError as error:
        raise MalformedBody("The body does not match its Transfer-Encoding.") from error


def parse_object(raw: bytes) -> dict[str, Any]:
    """`raw` as a JSON object. Raises MalformedBody where it is not JSON, InvalidRequest where it is not usable."""
    if not raw.strip():
        raise MalformedBody("The body is empty; a JSON object was expected.")
    value = _loads(raw)
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body must be a JSON object, not {_json_type(value)}.")
    # Counting brackets is far cheaper than walking, and an upper bound.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def validate(data: dict[str, Any], model: type[T]) -> T:
    """`data` as a checked `model`. Raises InvalidRequest, whose `param` is the first offending field."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid_request(error, data) from error


def invalid_request(error: ValidationError, data: Any) -> InvalidRequest:
    """A pydantic error in the client's words. Values are left out: one of them may be a secret."""
    problems = [
        {"param": field_path(item["loc"], data), "message": _message(item["type"], item["msg"])}
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_REPORTED]
    ]
    first = problems[0]
    text = f"{first['param']}: {first['message']}" if first["param"] else str(first["message"])
    return InvalidRequest(text, param=first["param"], details={"errors": problems} if len(problems) > 1 else None)


def field_path(location: tuple[int | str, ...], data: Any) -> str | None:
    """`availableModels[2]`, `objective.costWeight`: where in `data` a pydantic location points; None for all of it.

    Pydantic mixes names of union members into its locations; what is neither a key nor an index of `data` is one.
    """
    path, here = "", data
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if isinstance(here, dict) and isinstance(step, str) and (step in here or last):
            path, here = f"{path}.{step}" if path else step, here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            path, here = f"{path}[{step}]", here[step] if 0 <= step < len(here) else None
    return _printable(path) or None


def refuse_unstorable(data: Any, path: str = "") -> None:
    """Raise InvalidRequest for text that Postgres cannot keep: NUL characters and lone surrogates.

    For what is stored as text only; a chat body keeps both. `data` is at most MAX_DEPTH deep.
    """
    if isinstance(data, dict):
        for key, value in data.items():
            here = f"{path}.{key}" if path else key
            refuse_unstorable(key, here)
            refuse_unstorable(value, here)
    elif isinstance(data, list):
        for position, value in enumerate(data):
            refuse_unstorable(value, f"{path}[{position}]")
    elif isinstance(data, str) and _UNSTORABLE.search(data):
        param = _printable(path)
        raise InvalidRequest(f"{param}: text without NUL and lone surrogates was expected", param=param)


def _loads(raw: bytes) -> Any:
    try:
        return load(raw)
    except RecursionError as error:
        raise MalformedBody("The body is not valid JSON: it is nested too deeply.") from error
    except ValueError as error:  # covers bad UTF-8, bad JSON, and numbers beyond every double
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return
    raise InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _children(parent: Any) -> Any:
    return parent.values() if isinstance(parent, dict) else parent


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "missing":
        return "this field is required"
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    return text[:1].lower() + text[1:] if message.startswith("Input ") else text


def _printable(path: str) -> str:
    """Keys are the client's: keep what we say about them short, and encodable."""
    return path[:_MAX_NAME_CHARS].encode("utf-8", "replace").decode()


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {limit_bytes} bytes, the limit here.")


def _json_type(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
