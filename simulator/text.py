"""Pure text: pieces (the simulator's tokens), seeded words and digests."""

import hashlib
import random
import re
from collections.abc import Iterable

_PIECE = re.compile(r"\S+\s*|\s+")
_WORDS = re.findall(
    r"\w+",
    "the model weighs each option against its price and keeps what holds under load while a careful reader checks "
    "every step before the next one begins so that small errors stay small and clear notes travel with the work "
    "because teams share results early compare plain measures and learn which path gives steady gains over time "
    "without hidden cost or surprise when demand grows quickly across many regions and simple tools remain enough",
)
_SENTENCE_WORDS = 9


def pieces(text: str) -> tuple[str, ...]:
    """Split `text` into tokens: words with the white space behind them. Joined, they are `text` again."""
    return tuple(_PIECE.findall(text))


def count_tokens(text: str) -> int:
    """Count the tokens of `text`: its white-space separated words."""
    return len(text.split())


def chunks(text: str, size: int = 8) -> tuple[str, ...]:
    """Cut `text` into pieces of `size` characters, as providers cut streamed tool arguments."""
    return tuple(text[start : start + size] for start in range(0, len(text), size))


def digest(*parts: object) -> str:
    """Return 16 hexadecimal characters that name `parts`; equal parts give equal names on every machine."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def seeded(*parts: object) -> random.Random:
    """Return a random generator that depends on `parts` alone."""
    return random.Random(int(digest(*parts), 16))  # noqa: S311 - reproducible text, no secret depends on it


def filler(rng: random.Random, count: int) -> str:
    """Return `count` plausible words in sentences, ending in a full stop."""
    words = rng.choices(_WORDS, k=count)
    words[::_SENTENCE_WORDS] = [word.capitalize() for word in words[::_SENTENCE_WORDS]]
    last = _SENTENCE_WORDS - 1
    words[last::_SENTENCE_WORDS] = [f"{word}." for word in words[last::_SENTENCE_WORDS]]
    return " ".join(words).rstrip(".") + "." if words else ""


def resize(text: str, count: int, rng: random.Random) -> str:
    """Return `text` cut or continued so that it has exactly `count` tokens."""
    missing = count - count_tokens(text)
    if missing > 0:
        return f"{text} {filler(rng, missing)}".lstrip()
    return "".join(pieces(text.lstrip())[:count]).rstrip()


def cut_at_stop(text: str, stops: Iterable[str]) -> tuple[str, str | None]:
    """Cut `text` before the first stop sequence in it; return what is left and the sequence that was met."""
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    position, stop = min(found)
    return text[:position], stop
