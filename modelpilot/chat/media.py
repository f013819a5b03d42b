"""Pictures, sound, films and documents in a prompt: how large they are, and the tokens that providers publish for them.

Sizes are read from the first bytes of what is inline. Nothing is fetched: what is given by its address has the size
that its rule takes for the usual one.
"""

import math
import re
import struct
from binascii import Error, a2b_base64
from collections.abc import Callable
from typing import Literal, NamedTuple

from modelpilot.chat.tokens import count_tokens
from modelpilot.wire.jsonb import JsonObject, as_object

Rule = Literal["openai", "anthropic", "gemini"]

_USUAL_PIXELS = 1_024  # a side of a picture that nobody has measured
_USUAL_PAGES, _USUAL_SECONDS = 10, 60.0
_HEAD, _LONG_HEAD = 4_096, 256 * 1_024  # characters of base64: a JPEG may have a preview before its size
_BYTES_PER_PAGE, _LEAST_BYTES_PER_PAGE = 50_000, 200
_BYTES_PER_SECOND = {"wav": 48_000, "pcm16": 48_000, "video": 125_000}  # 24 kHz of 16 bits; 1 Mbit/s
_COMPRESSED_BYTES_PER_SECOND = 16_000  # 128 kbit/s
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200},", re.IGNORECASE)


class Media(NamedTuple):
    """A part of a prompt that is no text. `amount`: a picture's has none, a document's is in pages, that of sound and
    films in seconds, that of a text file in tokens."""

    kind: Literal["image", "audio", "video", "document", "text"]
    amount: float = 0.0
    width: int = _USUAL_PIXELS
    height: int = _USUAL_PIXELS
    detail: str = "auto"


class _Inline(NamedTuple):
    """What a data URL holds: base64 from `begin` on. Of an address, nothing is known."""

    kind: str
    url: str
    begin: int

    @classmethod
    def of(cls, url: str) -> "_Inline":
        match = _DATA_URL.match(url)
        return cls("", "", 0) if match is None else cls((match[1] or "").lower(), url, match.end())

    @property
    def size(self) -> int:
        """In bytes."""
        return (len(self.url) - self.begin) * 3 // 4

    def head(self, most: int) -> bytes:
        """What so many characters from the beginning on say."""
        return _decoded(self.url[self.begin : self.begin + most])

    def tail(self, most: int) -> bytes:
        """The same of the end, behind what `head` has."""
        begin = max(self.begin + most, len(self.url) - most)
        return _decoded(self.url[begin + (self.begin - begin) % 4 :])


def _decoded(encoded: str) -> bytes:
    clean = "".join(encoded.split()).encode("ascii", "ignore").rstrip(b"=")
    try:
        return a2b_base64(clean[: len(clean) // 4 * 4])
    except Error:
        return b""


def media_in(part: JsonObject) -> Media | None:
    """What a part of a message's content is; None: text, or what nobody knows a rule for."""
    kind = part.get("type")
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
        return _image(_Inline.of(str(url or "")), str(detail or part.get("detail") or "auto"))
    if kind == "input_audio":
        audio = as_object(part.get(kind))
        sound = _Inline("", data, 0) if isinstance(data := audio.get("data"), str) else _Inline.of("")
        return Media("audio", _seconds(str(audio.get("format") or "wav"), sound))
    if kind in ("file", "input_file"):
        file = part if kind == "input_file" else as_object(part.get(kind))
        given = file.get("file_data") or file.get("file_url")
        return _file(_Inline.of(given if isinstance(given, str) else ""), str(file.get("filename") or ""))
    return Media("video", _USUAL_SECONDS) if kind in ("video_url", "input_video") else None


def _image(inline: _Inline, detail: str) -> Media:
    width, height = _pixels(inline.head(_HEAD)) or _pixels(inline.head(_LONG_HEAD)) or (_USUAL_PIXELS, _USUAL_PIXELS)
    return Media("image", width=width, height=height, detail=detail)


def _file(inline: _Inline, name: str) -> Media:
    general, _, special = inline.kind.partition("/")
    if general == "image":
        return _image(inline, "auto")
    if general == "audio":
        return Media("audio", _seconds(special, inline))
    if general == "video":
        return Media("video", _seconds(general, inline))
    if general == "text" or special in ("json", "xml") or name.lower().endswith(_TEXT_FILES):
        text = inline.head(_LONG_HEAD)
        return Media("text", round(count_tokens(text.decode("utf-8", "replace")) * inline.size / max(len(text), 1)))
    return Media("document", _pages(inline))


_TEXT_FILES = (".txt", ".md", ".csv", ".json", ".xml", ".html")


def _seconds(form: str, inline: _Inline) -> float:
    if not inline.size:
        return _USUAL_SECONDS
    head = inline.head(_HEAD)
    rate = _BYTES_PER_SECOND.get(form, _COMPRESSED_BYTES_PER_SECOND)
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt " and len(head) >= 32:
        rate = int.from_bytes(head[28:32], "little") or rate
    return max(inline.size / rate, 0.1)


_COUNT = re.compile(rb"/Count\s{1,9}(\d{1,6})\b|/Linearized\b[^>]{0,99}?/N\s{1,9}(\d{1,6})\b")
_PAGE = re.compile(rb"/Type\s{0,9}/Page\b")


def _pages(inline: _Inline) -> int:
    """Pages of a PDF: what its page tree says, else its pages one by one, else what its size makes likely."""
    if not inline.size:
        return _USUAL_PAGES
    data = inline.head(_LONG_HEAD) + inline.tail(_LONG_HEAD)
    said = max((int(count or number) for count, number in _COUNT.findall(data)), default=0)
    likely = said or len(_PAGE.findall(data)) or math.ceil(inline.size / _BYTES_PER_PAGE)
    return min(likely, inline.size // _LEAST_BYTES_PER_PAGE + 1)


def _pixels(data: bytes) -> tuple[int, int] | None:
    """Width and height of a picture that begins so; None: not one of the four formats, or not enough of it."""
    found: tuple[int, int] | None = None
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            found = struct.unpack(">II", data[16:24])
        elif data[:4] == b"GIF8":
            found = struct.unpack("<HH", data[6:10])
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            found = _webp(data)
        elif data[:2] == b"\xff\xd8":
            found = _jpeg(data)
    except struct.error:
        return None
    return found if found is not None and min(found) > 0 else None


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


# The markers of a JPEG that hold its size; the others of this range do not.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE = frozenset({0x01, 0xFF, *range(0xD0, 0xD9)})  # markers without a length


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 if marker in _LONE else 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


def rule_of(kind: str | None, model: str) -> Rule:
    """Whose rule holds for a model by its provider's kind and its name there, which for some providers says more."""
    name = model.lower()
    if kind == "anthropic" or "claude" in name:
        return "anthropic"
    return "gemini" if kind == "google" or "gemini" in name else "openai"


def media_tokens(media: Media, kind: str | None = None, model: str = "") -> int:
    """The tokens of one part by the rule of the model that is asked; without one, by that of OpenAI's usual models."""
    rule = rule_of(kind, model)
    if media.kind == "text":
        return int(media.amount)
    if media.kind == "image":
        return _OF_IMAGES[rule](media, model.lower())
    per_unit = _PER_UNIT[media.kind]
    return math.ceil(media.amount * per_unit.get(rule, per_unit["openai"]))


# Of a second or a page. https://platform.openai.com/docs/guides/audio, https://ai.google.dev/gemini-api/docs/tokens,
# https://docs.claude.com/en/docs/build-with-claude/pdf-support ("1,500 to 3,000 tokens per page").
_PER_UNIT: dict[str, dict[Rule, float]] = {
    "audio": {"openai": 10.0, "gemini": 32.0},
    "video": {"openai": 263.0},
    "document": {"openai": 2_000.0, "gemini": 258.0},
}


def _anthropic(image: Media, model: str) -> int:
    """https://docs.claude.com/en/docs/build-with-claude/vision: width × height / 750, of at most 1,568 pixels a side
    and about 1,600 tokens."""
    scale = min(1.0, 1_568 / max(image.width, image.height))
    return min(math.ceil(image.width * scale * image.height * scale / 750), 1_600)


def _gemini(image: Media, model: str) -> int:
    """https://ai.google.dev/gemini-api/docs/tokens: 258 for each tile of 768 pixels, one for a small picture."""
    if max(image.width, image.height) <= 384:
        return 258
    return 258 * math.ceil(image.width / 768) * math.ceil(image.height / 768)


# https://platform.openai.com/docs/guides/images-vision: tokens of a picture and of each of its tiles, or a factor for
# its patches.
_TILES = (
    (re.compile(r"gpt-4o-mini"), 2_833, 5_667),
    (re.compile(r"\bgpt-5"), 70, 140),
    (re.compile(r"\bo[13]\b"), 75, 150),
    (re.compile(r"computer-use"), 65, 129),
)
_PATCHES = (
    (re.compile(r"gpt-[45][\d.]*-nano"), 2.46),
    (re.compile(r"gpt-(?:4\.1|5[\d.]*)-mini"), 1.62),
    (re.compile(r"\bo4-mini"), 1.72),
)
_MOST_PATCHES = 1_536


def _openai(image: Media, model: str) -> int:
    factor = next((factor for pattern, factor in _PATCHES if pattern.search(model)), None)
    if factor is not None:
        return math.ceil(_patches(image.width, image.height) * factor)
    base, per_tile = next(((one, tile) for pattern, one, tile in _TILES if pattern.search(model)), (85, 170))
    if image.detail == "low":
        return base
    scale = min(1.0, 2_048 / max(image.width, image.height))
    width, height = image.width * scale, image.height * scale
    scale = min(1.0, 768 / min(width, height))
    return base + per_tile * math.ceil(round(width * scale, 6) / 512) * math.ceil(round(height * scale, 6) / 512)


def _patches(width: float, height: float) -> int:
    """Squares of 32 pixels; a picture with more of them than are taken is made smaller first."""
    if math.ceil(width / 32) * math.ceil(height / 32) > _MOST_PATCHES:
        scale = math.sqrt(32**2 * _MOST_PATCHES / (width * height))
        across, down = width * scale / 32, height * scale / 32
        scale *= min(max(math.floor(each), 1) / each for each in (across, down))
        width, height = width * scale, height * scale
    return min(math.ceil(round(width / 32, 6)) * math.ceil(round(height / 32, 6)), _MOST_PATCHES)


_OF_IMAGES: dict[Rule, Callable[[Media, str], int]] = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
