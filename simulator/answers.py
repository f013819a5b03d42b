"""What the simulator says: how hard a prompt is, a right or a wrong answer, embeddings. Pure and deterministic."""

import base64
import operator
import random
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from simulator import request as fields
from simulator.faults import SimError
from simulator.text import count_tokens, digest, filler

# Every wrong answer starts so, which lets a simulated judge (`schema.py`) tell it from a right one.
WRONG_MARKER = "I am not certain, but"
REFUSAL = "I'm sorry, but I can't help with that."

_WORD = re.compile(r"[\w-]+")
_HARD_WORDS = frozenset(
    _WORD.findall(
        "prove derive theorem optimise optimize architecture concurrency legal diagnose quantum integral complexity "
        "trade-off analyse analyze deadlock cryptographic eigenvalue asymptotic"
    )
)
_MARKERS = {"[easy]": 0.2, "[medium]": 0.7, "[hard]": 0.9}
_SUM = re.compile(
    r"(?:what(?:'s| is)|calculate|compute|how much is)\s+(-?\d{1,12})\s*([-+*/x\u00d7\u00f7])\s*(-?\d{1,12})",
    re.IGNORECASE,
)
_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "x": operator.mul, "\u00d7": operator.mul}
_SIGNS = {"x": "*", "\u00d7": "*", "\u00f7": "/"}
_CAPITAL = re.compile(r"capital (?:city )?of (?:the )?([A-Za-z ]+)", re.IGNORECASE)
_CAPITALS = {
    "france": "Paris", "germany": "Berlin", "italy": "Rome", "spain": "Madrid", "portugal": "Lisbon",
    "austria": "Vienna", "japan": "Tokyo", "china": "Beijing", "india": "New Delhi", "canada": "Ottawa",
    "australia": "Canberra", "brazil": "Brasília", "egypt": "Cairo", "kenya": "Nairobi", "norway": "Oslo",
}  # fmt: skip
_ECHO = re.compile(r"(?:reply|respond|answer) with exactly:\s*(.+)", re.IGNORECASE | re.DOTALL)
_SKIP = frozenset(
    _WORD.findall("about please explain describe write what which where when that this with from have does your")
)


@dataclass(frozen=True, slots=True)
class Solution:
    """A right and a wrong answer to a prompt whose answer is known."""

    right: str
    wrong: str


def difficulty(prompt: str) -> float:
    """Return how hard `prompt` is, in [0.05, 0.95].

    `[easy]`, `[medium]` or `[hard]` in the prompt decide. A sum is as hard as it has digits. Anything else grows with
    length, digits and words such as "prove", plus a part that depends on the text alone.
    """
    for marker, value in _MARKERS.items():
        if marker in prompt:
            return value
    if echoes(prompt):
        return 0.05
    if match := _SUM.search(prompt):
        digits_in_sum: int = len(match[1].lstrip("-")) + len(match[3].lstrip("-"))
        return min(0.95, 0.08 * digits_in_sum)
    words = [word.lower() for word in _WORD.findall(prompt)]
    hard_words = sum(word in _HARD_WORDS for word in words)
    digits = sum(word.isdigit() for word in words) / max(len(words), 1)
    chance = int(digest("difficulty", prompt)[:8], 16) / 0xFFFFFFFF
    score: float = 0.2 + 0.3 * min(len(words) / 300, 1) + 0.3 * min(hard_words / 2, 1) + 0.2 * digits + 0.25 * chance
    return min(max(score, 0.05), 0.95)


def _sum(match: re.Match[str]) -> Solution:
    value: float
    left, sign, right = int(match[1]), match[2].lower(), int(match[3])
    shown = f"{left} {_SIGNS.get(sign, sign)} {right}"
    if _SIGNS.get(sign, sign) != "/":
        value = _OPERATORS[sign](left, right)
    elif right == 0:
        return Solution(f"{shown} is undefined.", f"{shown} = 0.")
    else:
        value = left // right if left % right == 0 else round(left / right, 6)
    return Solution(f"{shown} = {value}.", f"{shown} = {value + 1 + int(digest(shown)[:2], 16)}.")


def echoes(prompt: str) -> bool:
    """Whether `prompt` asks for an exact answer."""
    return _echo(prompt) is not None


def _echo(prompt: str) -> re.Match[str] | None:
    return _ECHO.search(prompt) if "with exactly:" in prompt.lower() else None


def solve(prompt: str) -> Solution | None:
    """Return the answers to a prompt of a known shape: a sum, a capital, `reply with exactly: …`; else None."""
    if match := _echo(prompt):
        return Solution(match[1], match[1])
    if match := _SUM.search(prompt):
        return _sum(match)
    if "capital" in prompt.lower() and (match := _CAPITAL.search(prompt)):
        country = match[1].strip()
        if capital := _CAPITALS.get(country.lower()):
            other = "Atlantis"
            return Solution(f"The capital of {country} is {capital}.", f"The capital of {country} is {other}.")
    return None


def _topic(prompt: str) -> str:
    words = [word for word in _WORD.findall(prompt[:500]) if len(word) > 3 and word.lower() not in _SKIP]
    return " ".join(words[:4]) or "your message"


def answer(prompt: str, *, right: bool, length: int, rng: random.Random) -> str:
    """Return the answer to `prompt`, of about `length` tokens where the answer is not a known fact."""
    solution = solve(prompt)
    if solution and right:
        return solution.right
    if solution:
        same = solution.right == solution.wrong  # An echo cannot be wrong, and must stay exact.
        return solution.wrong if same else f"{WRONG_MARKER} {solution.wrong}"
    opening = f"On {_topic(prompt)}:" if right else f"{WRONG_MARKER} on {_topic(prompt)}:"
    return f"{opening} {filler(rng, max(length - count_tokens(opening), 1))}"


DIMENSIONS = 256
MAX_DIMENSIONS = 4096
_EMBEDDED_WORD = re.compile(r"\w+")


@lru_cache(maxsize=4096)
def _direction(word: str, dimensions: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(zlib.crc32(word.encode()))
    return generator.standard_normal(dimensions).astype(np.float32)


def embed(text: str, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """Return a unit vector of shape (dimensions,): the sum of one fixed random direction per word, so that texts that
    share words get similar vectors."""
    total = np.sum([_direction(word, dimensions) for word in _EMBEDDED_WORD.findall(text.lower()) or [""]], axis=0)
    unit: NDArray[np.float32] = (total / np.linalg.norm(total)).astype(np.float32)
    return unit


def inputs(value: Any) -> list[str]:
    """Read OpenAI's `input`: a text, texts, token numbers, or lists of token numbers. Raises `SimError` 400."""
    items = [value] if isinstance(value, str) or (isinstance(value, list) and value and _is_token(value[0])) else value
    if not isinstance(items, list) or not items or len(items) > 2048:
        raise SimError(400, "input must be a text or a list of 1 to 2048 texts", param="input")
    texts = [" ".join(map(str, item)) if isinstance(item, list) else item for item in items]
    if not all(isinstance(text, str) and text for text in texts):
        raise SimError(400, "input must hold non-empty texts or lists of token numbers", param="input")
    return texts


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def embeddings_body(body: Mapping[str, Any], texts: list[str]) -> bytes:
    """Answer `POST /v1/embeddings` in floats or, with `encoding_format: base64`, in little-endian float32."""
    dimensions = fields.whole(body, "dimensions", 1, MAX_DIMENSIONS) or DIMENSIONS
    packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = embed(text, dimensions)
        shown: Any = base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": body.get("model"), "usage": usage})
