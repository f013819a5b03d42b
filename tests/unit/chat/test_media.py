"""Pictures, sound and documents of a prompt: sizes from their first bytes, tokens by the published rules."""

import base64
import io
import struct
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat.media import Media, media_in, media_tokens, rule_of

Part = dict[str, Any]


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00"


def jpeg(width: int, height: int, before: int = 16) -> bytes:
    """With something of so many bytes before the size, as cameras write their previews."""
    preview = b"\xff\xe1" + struct.pack(">H", before + 2) + b"\x00" * before
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)
    return b"\xff\xd8" + preview + frame + b"\x00" * 40


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        size = b"\x00" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        size = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        size = b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\x00\x00\x00\x00WEBP" + kind + b"\x00\x00\x00\x00" + size + b"\x00" * 8


def image(data: bytes, detail: str | None = None) -> Part:
    url: Part = {"url": f"data:image/x;base64,{base64.b64encode(data).decode()}"}
    return {"type": "image_url", "image_url": url | ({"detail": detail} if detail else {})}


def tokens(part: Part, kind: str | None = None, model: str = "") -> int:
    found = media_in(part)
    assert found is not None
    return media_tokens(found, kind, model)


@pytest.mark.parametrize(
    "data",
    [
        png(1_300, 700),
        gif(1_300, 700),
        jpeg(1_300, 700),
        jpeg(1_300, 700, before=60_000),
        webp(b"VP8X", 1_300, 700),
        webp(b"VP8L", 1_300, 700),
        webp(b"VP8 ", 1_300, 700),
    ],
    ids=["png", "gif", "jpeg", "jpeg-with-a-preview", "webp", "webp-lossless", "webp-lossy"],
)
def test_a_pictures_size_is_read_from_its_first_bytes(data: bytes) -> None:
    """All four formats that providers take."""
    assert media_in(image(data)) == Media("image", width=1_300, height=700)


@pytest.mark.parametrize(
    ("size", "detail", "model", "count"),
    [
        ((1_024, 1_024), "high", "gpt-4o", 765),
        ((2_048, 4_096), "high", "gpt-4o", 1_105),
        ((4_096, 8_192), "low", "gpt-4o", 85),
        ((512, 512), None, "gpt-4.1", 255),
        ((1_024, 1_024), "high", "gpt-4o-mini", 25_501),
        ((1_024, 1_024), "high", "gpt-5", 630),
        ((1_024, 1_024), "high", "o3", 675),
        ((1_024, 1_024), "high", "gpt-4.1-mini", 1_659),
        ((1_800, 2_400), "high", "o4-mini", 2_498),
        ((1_092, 1_092), None, "claude-sonnet-4-5", 1_590),
        ((200, 200), None, "claude-sonnet-4-5", 54),
        ((8_000, 8_000), None, "anthropic/claude-opus-4", 1_600),
        ((384, 384), None, "gemini-2.5-pro", 258),
        ((1_500, 800), None, "google/gemini-2.5-flash", 4 * 258),
    ],
)
def test_the_published_rules(size: tuple[int, int], detail: str | None, model: str, count: int) -> None:
    """The examples of the providers' own pages, and what follows from their words."""
    assert tokens(image(png(*size), detail), None, model) == count


@pytest.mark.parametrize(
    ("kind", "count"),
    [("openai", 765), ("anthropic", 1_399), ("google", 4 * 258)],
    ids=["openai", "anthropic", "google"],
)
def test_a_picture_elsewhere_counts_as_a_usual_one(kind: str, count: int) -> None:
    """Nothing is fetched to be counted; nor is one of another format looked into."""
    for url in ("https://example.com/a.png", "data:image/avif;base64,AAAA", "data:image/png;base64,!!", ""):
        assert tokens({"type": "image_url", "image_url": {"url": url}}, kind) == count
    assert tokens({"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"}) == 85


def test_sound_is_counted_by_its_seconds() -> None:
    """A WAV says how many bytes make a second; of others the usual rate is taken."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(b"\x00" * 160_000)
    data = base64.b64encode(file.getvalue()).decode()
    said: Part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    assert tokens(said) == pytest.approx(100, abs=1)
    assert tokens(said, "google") == pytest.approx(320, abs=1)
    compressed = {"type": "input_audio", "input_audio": {"data": "A" * 640_000, "format": "mp3"}}
    assert tokens(compressed) == 300


def pdf(pages: int, *, tree: bool = True) -> str:
    objects = [b"<< /Type /Page /Parent 2 0 R >> endobj" + b" " * 200] * pages
    root = b"<< /Type /Pages /Kids [] /Count %d >>" % pages if tree else b""
    return f"data:application/pdf;base64,{base64.b64encode(b'%PDF-1.7 ' + root + b''.join(objects)).decode()}"


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        (pdf(7), 7),
        (pdf(7, tree=False), 7),
        (f"data:application/pdf;base64,{'A' * 400_000}", 6),
        ("https://example.com/a.pdf", 10),
        (pdf(1).replace("data:application/pdf", "data:application/octet-stream"), 1),
    ],
    ids=["tree", "one-by-one", "by-size", "elsewhere", "unnamed"],
)
def test_documents_are_counted_by_their_pages(data: str, pages: int) -> None:
    """An estimate: how much is on a page, only the provider sees."""
    part: Part = {"type": "file", "file": {"filename": "a", "file_data": data}}
    assert tokens(part) == pages * 2_000
    assert tokens(part, "google") == pages * 258


def test_other_files() -> None:
    """Text is text, pictures are pictures, and films have a usual rate."""
    text = base64.b64encode(b"word " * 200_000).decode()
    assert tokens({"type": "file", "file": {"file_data": f"data:text/csv;base64,{text}"}}) == pytest.approx(
        200_000, rel=0.02
    )
    shown = base64.b64encode(png(100, 100)).decode()
    assert tokens({"type": "file", "file": {"file_data": f"data:image/png;base64,{shown}"}}) == 255
    film = f"data:video/mp4;base64,{'A' * 1_000_000}"
    assert tokens({"type": "file", "file": {"file_data": film}}) == 263 * 6
    assert tokens({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}) == 263 * 60


@pytest.mark.parametrize(
    ("kind", "name", "rule"),
    [("openrouter", "anthropic/claude-3", "anthropic"), ("openai", "gemini-x", "gemini"), (None, "llama", "openai")],
)
def test_the_rule_follows_the_model(kind: str | None, name: str, rule: str) -> None:
    """Wherever it is called."""
    assert rule_of(kind, name) == rule


@given(
    st.binary(max_size=200),
    st.sampled_from([png(9, 9)[:12], gif(9, 9)[:6], jpeg(9, 9)[:4], b"RIFF\x00\x00\x00\x00WEBP"]),
)
def test_no_bytes_break_the_reading(more: bytes, begin: bytes) -> None:
    """Cut, wrong or empty: there is a count above zero for every rule."""
    for kind in ("openai", "anthropic", "google"):
        assert tokens(image(begin + more), kind) > 0
