"""Images in a request: decoded, looked at by their first bytes, described, or refused in the provider's words. Pure."""

import base64
import binascii
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.faults import SimError

MOST_BYTES = 20 * 1024**2
_SHOWN_URL = 200
_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MARKS = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
# The markers of a JPEG that hold its size; the others of this range do not.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Words:
    """A provider's refusals: each takes the field's name, and some the media type that was said and the one found.

    `more` are media types that it takes and the simulator does not look into.
    """

    unsupported: Callable[[str, str], SimError]
    undecodable: Callable[[str], SimError]
    empty: Callable[[str], SimError]
    too_big: Callable[[str, int], SimError]
    other: Callable[[str, str, str], SimError]
    more: tuple[str, ...] = ()


def described(data: Any, media_type: str, place: str, words: Words) -> str:
    """Return what can be seen of an image in base64: `a PNG image of 1×1 pixels`. Raises `SimError` (400)."""
    if media_type.lower() not in (*_TYPES, *words.more):
        raise words.unsupported(place, media_type)
    if not isinstance(data, str):
        raise words.undecodable(place)
    try:
        raw = base64.b64decode("".join(data.split()) if "\n" in data else data, validate=True)
    except (binascii.Error, ValueError):
        raise words.undecodable(place) from None
    if not raw:
        raise words.empty(place)
    if len(raw) > MOST_BYTES:
        raise words.too_big(place, len(raw))
    if media_type.lower() in words.more:
        return f"an image of type {media_type}"
    found = kind(raw)
    if found != media_type.lower():
        raise words.other(place, media_type, found)
    size = pixels(raw, found)
    name = found.removeprefix("image/").upper()
    return f"a {name} image of {size[0]}\u00d7{size[1]} pixels" if size else f"a {name} image of unknown size"


def of_url(url: Any, place: str, words: Words) -> str:
    """Return what can be seen of an image that is given by its address, or is one. Addresses are not fetched."""
    text = url if isinstance(url, str) else ""
    if not text.startswith("data:"):
        return f"an image at {text[:_SHOWN_URL]}"
    head, _, data = text.partition(",")
    media_type, _, encoding = head.removeprefix("data:").partition(";")
    return described(data if encoding.endswith("base64") else None, media_type, place, words)


def kind(raw: bytes) -> str:
    """Return the media type that the first bytes show, or ""."""
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for mark, media_type in _MARKS if raw.startswith(mark)), "")


def pixels(raw: bytes, media_type: str) -> tuple[int, int] | None:
    """Return width and height, or None where the header is cut off."""
    try:
        match media_type:
            case "image/png":
                width, height = struct.unpack_from(">II", raw, 16)
            case "image/gif":
                width, height = struct.unpack_from("<HH", raw, 6)
            case "image/webp":
                return _webp(raw)
            case _:
                return _jpeg(raw)
    except (struct.error, IndexError):
        return None
    return width, height


def _webp(raw: bytes) -> tuple[int, int] | None:
    match raw[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", raw, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = struct.unpack_from("<I", raw, 21)[0]
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(raw[24:27], "little") + 1, int.from_bytes(raw[27:30], "little") + 1
    return None


def _jpeg(raw: bytes) -> tuple[int, int] | None:
    at = 2
    while raw[at] == 0xFF:
        marker, length = raw[at + 1], struct.unpack_from(">H", raw, at + 2)[0]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", raw, at + 5)
            return width, height
        at += 2 + max(length, 2)
    return None


def _openai(message: str, code: str, place: str = "") -> SimError:
    return SimError(400, message, code, place or None)


_FORMATS = "Please make sure your image {}is of one the following formats: ['png', 'jpeg', 'gif', 'webp']."
OPENAI = Words(
    unsupported=lambda place, said: _openai(
        f"You uploaded an unsupported image. {_FORMATS.format('')}", "invalid_image_format"
    ),
    undecodable=lambda place: _openai(f"Invalid base64 image_url in '{place}'.", "invalid_base64", place),
    empty=lambda place: _openai("You uploaded an empty image. Please make sure your image is valid.", "empty_image"),
    too_big=lambda place, size: _openai(
        f"You uploaded an unsupported image. {_FORMATS.format('is below 20 MB in size and ')}", "image_too_large"
    ),
    other=lambda place, said, found: _openai(
        "You uploaded an unsupported image. Please make sure your image is valid.", "image_parse_error"
    ),
)


def _claude(message: str) -> SimError:
    return SimError(400, message)


ANTHROPIC = Words(
    unsupported=lambda place, said: _claude(
        f"{place}.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
    ),
    undecodable=lambda place: _claude(f"{place}.data: invalid base64 data"),
    empty=lambda place: _claude(f"{place}: image cannot be empty"),
    too_big=lambda place, size: _claude(f"{place}: image exceeds 20 MB maximum: {size} bytes > {MOST_BYTES} bytes"),
    other=lambda place, said, found: _claude(
        f"{place}.data: The image was specified using the {said} media type, but the image appears to be a "
        f"{found} image"
        if found
        else f"{place}.data: Image does not match the provided media type {said}"
    ),
)


def _google(place: str, message: str) -> SimError:
    return SimError(400, message, param=place)


_UNABLE = "Unable to process input image. Please retry or report in https://developers.generativeai.google/guide/"
GEMINI = Words(
    unsupported=lambda place, said: _google(place, f"Unsupported MIME type: {said}"),
    undecodable=lambda place: _google(place, f"Invalid value at '{place}.data' (TYPE_BYTES), Base64 decoding failed"),
    empty=lambda place: _google(place, f"{_UNABLE}troubleshooting"),
    too_big=lambda place, size: _google(
        place, f"Request payload size exceeds the limit: {MOST_BYTES} bytes. The image has {size} bytes."
    ),
    other=lambda place, said, found: _google(place, f"{_UNABLE}troubleshooting"),
    more=("image/heic", "image/heif"),
)
