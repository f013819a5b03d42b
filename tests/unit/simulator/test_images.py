"""The simulator looks at images: what they are and how big, and refuses those that are none."""

import base64
import struct
from typing import Any

import pytest

from simulator.faults import Active, SimError
from simulator.generate import Dialect, generate
from simulator.images import MOST_BYTES
from simulator.models import MODELS
from simulator.wire_anthropic import Anthropic
from simulator.wire_gemini import Gemini
from simulator.wire_openai import OpenAI

Json = dict[str, Any]
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x06\x00\x00\x00"
GIF = b"GIF89a" + struct.pack("<HH", 3, 2) + b"\x00"
JPEG = (
    b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF" + b"\x00" * 10  # a segment that is passed over
    + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 200, 300) + b"\x03"
)  # fmt: skip
WEBP = b"RIFF\x00\x00\x00\x00WEBP"
LOSSY = WEBP + b"VP8 " + b"\x00" * 10 + struct.pack("<HH", 320, 240)
LOSSLESS = WEBP + b"VP8L" + b"\x00" * 4 + b"\x2f" + struct.pack("<I", 99 | 49 << 14)
EXTENDED = WEBP + b"VP8X" + b"\x00" * 8 + (1023).to_bytes(3, "little") + (767).to_bytes(3, "little")


def openai(media_type: str, data: str) -> tuple[Dialect, Json]:
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}},
        {"type": "text", "text": "?"},
    ]
    return OpenAI(), {"model": "large", "messages": [{"role": "user", "content": parts}]}


def anthropic(media_type: str, data: str) -> tuple[Dialect, Json]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "?"}]
    return Anthropic(), {"model": "large", "max_tokens": 99, "messages": [{"role": "user", "content": parts}]}


def gemini(media_type: str, data: str) -> tuple[Dialect, Json]:
    parts = [{"inlineData": {"mimeType": media_type, "data": data}}, {"text": "?"}]
    return Gemini(), {"contents": [{"role": "user", "parts": parts}]}


DIALECTS = [openai, anthropic, gemini]
PATH = {"model": "large", "method": "generateContent"}


def answered(dialect: Dialect, body: Json) -> str:
    request = dialect.parse(body, PATH)
    return generate(request, MODELS["large"], Active(), None, call_id="x", created=1).choices[0].text


@pytest.mark.parametrize("ask", DIALECTS)
@pytest.mark.parametrize(
    ("media_type", "raw", "seen"),
    [
        ("image/png", PNG, "PNG image of 640\u00d7480"),
        ("image/gif", GIF, "GIF image of 3\u00d72"),
        ("image/jpeg", JPEG, "JPEG image of 300\u00d7200"),
        ("image/webp", LOSSY, "WEBP image of 320\u00d7240"),
        ("image/webp", LOSSLESS, "WEBP image of 100\u00d750"),
        ("image/webp", EXTENDED, "WEBP image of 1024\u00d7768"),
    ],
)
def test_type_and_size_are_seen(ask: Any, media_type: str, raw: bytes, seen: str) -> None:
    """The answer proves that the image arrived as it was sent."""
    assert answered(*ask(media_type, base64.b64encode(raw).decode())) == f"I see a {seen} pixels."


BAD = {
    "unsupported": ("image/bmp", base64.b64encode(b"BM" + PNG).decode()),
    "no base64": ("image/png", "no base64!"),
    "empty": ("image/png", ""),
    "of another type": ("image/png", base64.b64encode(JPEG).decode()),
    "no image": ("image/png", base64.b64encode(b"hello").decode()),
    "too big": ("image/png", base64.b64encode(PNG + bytes(MOST_BYTES)).decode()),
}


@pytest.mark.parametrize("ask", DIALECTS)
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_image_is_refused(ask: Any, case: str) -> None:
    """As the real providers do it: a gateway that breaks an image gets no answer to it."""
    with pytest.raises(SimError) as caught:
        answered(*ask(*BAD[case]))
    assert caught.value.status == 400
    assert len(caught.value.message) < 300


def test_the_refusals_are_the_providers_own() -> None:
    """Clients read these words, and our gateway classifies them."""
    said = []
    for ask in DIALECTS:
        with pytest.raises(SimError) as caught:
            answered(*ask(*BAD["of another type"]))
        said.append(caught.value.message)
    assert said[0] == "You uploaded an unsupported image. Please make sure your image is valid."
    assert said[1] == (
        "messages.0.content.0.image.source.base64.data: The image was specified using the image/png media type, but "
        "the image appears to be a image/jpeg image"
    )
    assert said[2].startswith("Unable to process input image.")


def test_addresses_are_not_fetched() -> None:
    """Whatever is there, or is not."""
    url = "https://example.org/cat.png"
    shown = f"I see an image at {url}."
    dialect, body = openai("image/png", "")
    body["messages"][0]["content"][0]["image_url"]["url"] = url
    assert answered(dialect, body) == shown
    dialect, body = anthropic("image/png", "")
    body["messages"][0]["content"][0]["source"] = {"type": "url", "url": url}
    assert answered(dialect, body) == shown
    dialect, body = gemini("image/png", "")
    body["contents"][0]["parts"][0] = {"fileData": {"fileUri": url, "mimeType": "image/png"}}
    assert answered(dialect, body) == shown


def test_images_in_results_are_looked_at() -> None:
    """An agent's tool may return a picture."""
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}
    body = {"model": "large", "max_tokens": 9, "messages": [{"role": "user", "content": [result]}]}
    with pytest.raises(SimError, match=r"messages.0.content.0.tool_result.content.0.image.source"):
        Anthropic().parse(body, PATH)


def test_a_known_answer_needs_no_image() -> None:
    """A sum beside an image is answered; a cut header has no size."""
    dialect, body = openai("image/png", base64.b64encode(PNG[:10]).decode())
    assert answered(dialect, body) == "I see a PNG image of unknown size."
    body["messages"][0]["content"][1]["text"] = "What is 12 * 7?"
    assert answered(dialect, body) == "12 * 7 = 84."
