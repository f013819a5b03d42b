"""From bytes that nobody trusts to a checked body, with an error that names the field and what was expected there."""

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from api.http.errors import BodyTooSlow, UnsupportedEncoding
from modelpilot.errors import InvalidRequest, MalformedBody, PayloadTooLarge
from modelpilot.wire.jsonb import load

# orjson writes at most 254 levels, and the body has to be written again for the provider.
MAX_DEPTH = 128
# A body of 20 MB can hold ten million values, which take seconds to read, check and free. A hundred thousand messages
# of parts are six hundred thousand.
MAX_VALUES = 1_000_000
# Larger bodies are prepared in a thread, one after the other: no other request waits for more than one step of one.
LARGE_BODY_BYTES = 256 * 1024
_MAX_REPORTED = 10
_MAX_NAME_CHARS = 200
_MAX_COUNTED = 1_000  # problems; describing each takes microseconds, and a body can have a million of them
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_NOT_STRUCTURE = bytes(sorted(set(range(256)) - set(b',[{"')))
_LANE = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")

T = TypeVar("T", bound=BaseModel)
Prepared = TypeVar("Prepared")


class BodyObserver(Protocol):
    """Is told how a body comes in, and may raise what ends its request."""

    def grow(self, body_bytes: int) -> None:
        """So many bytes came whose number was not announced."""
        ...

    def arrived(self) -> None:
        """All of it is here."""
        ...


@dataclass(frozen=True, slots=True)
class BodyPace:
    """How slow a body may come: never nothing for `idle_s`, and whole after `grace_s` and a second per
    `bytes_per_second` of it. A mobile connection manages this rate; twenty megabytes then take 350 s at most.
    """

    idle_s: float = 30.0
    grace_s: float = 30.0
    bytes_per_second: float = 64 * 1024.0

    def allowed_s(self, elapsed_s: float, received_bytes: int) -> float:
        """How long to wait for the next bytes."""
        return min(self.idle_s, self.grace_s + received_bytes / self.bytes_per_second - elapsed_s)


BODY_OBSERVER: web.RequestKey[BodyObserver] = web.RequestKey("body_observer", BodyObserver)
BODY_PACE: web.AppKey[BodyPace] = web.AppKey("body_pace", BodyPace)
_PACE = BodyPace()
EXPECTS_CONTINUE: web.RequestKey[bool] = web.RequestKey("expects_continue", bool)


async def read_body(request: web.Request, model: type[T]) -> T:
    """The checked body of `request`. Raises what `read_json` and `validate` raise."""
    return await read_with(request, lambda raw: validate(parse_object(raw), model))


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body of `request`.

    Raises PayloadTooLarge, UnsupportedEncoding, MalformedBody (not JSON) or InvalidRequest (not an object, too deep).
    """
    return await read_with(request, parse_object)


async def read_with(request: web.Request, prepare: Callable[[bytes], Prepared]) -> Prepared:
    """What the pure function `prepare` makes of the raw body of `request`. A large body is prepared in a thread.

    Raises what `read_bytes` and `prepare` raise.
    """
    raw = await read_bytes(request)
    if len(raw) <= LARGE_BODY_BYTES:
        return prepare(raw)
    return await asyncio.get_running_loop().run_in_executor(_LANE, _prepare_large, prepare, raw)


def _prepare_large(prepare: Callable[[bytes], Prepared], raw: bytes) -> Prepared:
    with _no_collections():
        return prepare(raw)


@contextmanager
def _no_collections() -> Iterator[None]:
    """A million new objects would be walked through over and over, and JSON has no cycles to find. One thread only."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def read_bytes(request: web.Request) -> bytes:
    """The raw body of `request`, never more than the application's limit.

    Raises PayloadTooLarge, UnsupportedEncoding, MalformedBody, BodyTooSlow, and what the observer of the body raises.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding("Send the body uncompressed.", param="Content-Encoding")
    limit_bytes = request._client_max_size  # aiohttp has no public name for it on the request
    if limit_bytes and (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    await _ask_for_body(request)
    observer = request.get(BODY_OBSERVER)
    is_announced = request.content_length is not None
    chunks, received_bytes = [], 0
    async for chunk in _chunks(request):
        received_bytes += len(chunk)
        if limit_bytes and received_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        if observer is not None and not is_announced:
            observer.grow(len(chunk))
        chunks.append(chunk)
    if observer is not None:
        observer.arrived()
    return b"".join(chunks)


async def _ask_for_body(request: web.Request) -> None:
    """Say "100 Continue" to a client that waits for it. Whoever is refused before sends no body at all."""
    if request.pop(EXPECTS_CONTINUE, False):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp does: the answer has not begun


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    pace, content = request.app.get(BODY_PACE, _PACE), request.content
    began_s = time.monotonic()
    try:
        while not content.at_eof():
            if content.is_eof():  # the rest is here
                yield content.read_nowait()
                continue
            allowed_s = pace.allowed_s(time.monotonic() - began_s, content.total_bytes)
            async with asyncio.timeout(allowed_s):
                chunk = await content.readany()
            yield chunk
    except web.RequestPayloadError as error:
        raise MalformedBody("The body does not match its Transfer-Encoding.") from error
    except TimeoutError:
        raise BodyTooSlow("The body did not come in time.") from None


def parse_object(raw: bytes) -> dict[str, Any]:
    """`raw` as a JSON object. Raises MalformedBody where it is not JSON, InvalidRequest where it is not usable."""
    if not raw or raw.isspace():
        raise MalformedBody("The body is empty; a JSON object was expected.")
    _check_values(raw)
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
    if error.error_count() > _MAX_COUNTED:
        return InvalidRequest(f"{error.error_count()} values are not what was expected.")
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
        raise InvalidRequest.at(param, "text without NUL and lone surrogates was expected")


def _loads(raw: bytes) -> Any:
    try:
        return load(raw)
    except RecursionError as error:
        raise MalformedBody("The body is not valid JSON: it is nested too deeply.") from error
    except ValueError as error:  # covers bad UTF-8, bad JSON, and numbers beyond every double
        raise MalformedBody(f"The body is not valid JSON: {error}.") from error


def _check_values(raw: bytes) -> None:
    """Raise InvalidRequest where JSON `raw` has more than MAX_VALUES values."""
    if len(raw) <= MAX_VALUES:  # every value takes a byte
        return
    # What text contains is counted as well here: an upper bound, for a hundredth of the exact figure's price.
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) < MAX_VALUES or count_values(raw) <= MAX_VALUES:
        return
    raise InvalidRequest(f"The body has more than {MAX_VALUES} values.")


def count_values(raw: bytes) -> int:
    """How many values JSON `raw` has, empty arrays and objects for two. Some 0.1 s for 20 MB, mostly without the GIL.

    What is not JSON has any number.
    """
    # Without escaped characters a quote begins or ends a text, so whatever has an odd number of them before is in one.
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = np.frombuffer(plain.translate(None, _NOT_STRUCTURE), np.uint8)
    quotes = marks == ord('"')
    inside = np.cumsum(quotes, dtype=np.uint8) & 1  # wraps at 256, which is even
    return int(np.count_nonzero(~quotes & (inside == 0))) + 1


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
