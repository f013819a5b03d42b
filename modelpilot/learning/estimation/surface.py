"""What a prompt looks like: numbers that tell tasks apart which mean the same words, at the end of its vector.

The embedders append these columns to what they make of the meaning, scaled down so far that the inner product of two
vectors is, but for one or two hundredths, the cosine of their meanings. So whatever is stored to search by is also all
there is to learn from, and the text itself is not needed again.
"""

import math
import re

import numpy as np
from numpy.typing import NDArray

from modelpilot.requests.records import Vector

SURFACE_COLUMNS = 32
_TAIL_SCALE = 0.02
_LARGEST = 3.0  # of a column, either way

_OPTION = re.compile(r"\s*(?:[A-Za-z]|\d{1,2})[.)]\s")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_PUNCTUATION = bytes(range(33, 48)) + bytes(range(58, 65)) + b"[\\]^_`{|}~"
# Marks of formulas, code, data and questions, counted together.
_MARKS = (b"?", b"\\$", b"{[", b'"', b"=^+*<>", b"_`#")
# Roughly the middle and the spread of each column over prompts of all kinds; a fit measures its own.
_MIDDLE = np.concatenate(
    [
        [6, 4, 1.5, 0.05, 0.05, 0.02, 0.05],  # size and shares
        [5, 3, 0.15, 0.4, 0.7, 0.2],  # words
        [1, 2, 1, 0.3],  # numbers
        [5, 2, 4, 4, 0.3, 0.5, 2, 1, 0.2],  # lines and options
        np.full(len(_MARKS), 0.5),
    ]
)
_SPREAD = np.concatenate(
    [
        [1.5, 1.5, 1, 0.07, 0.07, 0.1, 0.05],
        [1.5, 1.5, 0.1, 0.15, 0.2, 0.2],
        [1, 2, 1, 0.7],
        [1, 2, 1.5, 1.5, 0.5, 0.5, 2, 1.5, 0.4],
        [0.7, 1, 1, 1, 1, 1],
    ]
)


def with_surface(vector: Vector, text: str) -> Vector:
    """[dimension + SURFACE_COLUMNS], unit length: the vector of the meaning with the text's surface behind it."""
    tail = ((np.array(_columns(text)) - _MIDDLE) / _SPREAD).clip(-_LARGEST, _LARGEST) * _TAIL_SCALE
    head = vector * np.float32((1.0 - float(tail @ tail)) ** 0.5)
    return np.concatenate([head, tail]).astype(np.float32)


def split_surface(vectors: Vector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors of the meaning, and [..., SURFACE_COLUMNS] of the surface.

    All embedders of the product append a surface; vectors too short to have one get [..., 0].
    """
    width = SURFACE_COLUMNS if vectors.shape[-1] > SURFACE_COLUMNS else 0
    whole = vectors.astype(np.float64)
    cut = whole.shape[-1] - width
    meaning, surface = whole[..., :cut], whole[..., cut:]
    length = np.sqrt(np.einsum("...i,...i->...", meaning, meaning))[..., None]
    return meaning / np.where(length > 0.0, length, 1.0), surface / _TAIL_SCALE


def _columns(text: str) -> list[float]:
    # Plain floats: numpy's calls cost more than the few numbers that most prompts have.
    octets = text.encode("utf-8", "replace")
    counts = np.bincount(np.frombuffer(octets, np.uint8), minlength=256).tolist()
    total, words, lines = max(len(octets), 1), text.split(), text.split("\n")
    shares = (sum(counts[48:58]), sum(counts[65:91]), sum(counts[128:]), sum(counts[c] for c in _PUNCTUATION))
    return [
        *(math.log1p(size) for size in (total, len(words), len(lines))),
        *(share / total for share in shares),
        *_of_words(words),
        *_of_numbers(_NUMBER.findall(text)),
        *_of_lines(lines),
        *(math.log1p(sum(counts[c] for c in group)) for group in _MARKS),
    ]


def _of_words(words: list[str]) -> list[float]:
    if not words:
        return [0.0] * 6
    total, lengths = len(words), list(map(len, words))
    distinct = len({word.lower().strip(".,?!:;") for word in words})
    capitals = sum(word[0].isupper() for word in words)
    long, short = sum(length > 8 for length in lengths), sum(length <= 3 for length in lengths)
    return [*_mean_and_sd(lengths), long / total, short / total, distinct / total, capitals / total]


def _of_numbers(numbers: list[str]) -> list[float]:
    digits = [min(len(number.partition(".")[0]), 9) for number in numbers] or [0]
    decimals = sum("." in number for number in numbers)
    return [math.log1p(len(numbers)), max(digits), sum(digits) / len(digits), math.log1p(decimals)]


def _of_lines(lines: list[str]) -> list[float]:
    lengths = list(map(len, lines))
    shape = [math.log1p(size) for size in (max(lengths), _mean_and_sd(lengths)[1], lengths[-1], lengths[0])]
    options = [line for line in lines if _OPTION.match(line)]
    if not options:
        return [*shape, 0.0, 0.0, 0.0, 0.0, 0.0]
    numeric = sum(any(map(str.isdigit, option[2:])) for option in options) / len(options)
    mean, sd = _mean_and_sd(list(map(len, options)))
    return [*shape, min(len(options), 30) / 10, 1.0, math.log1p(mean), math.log1p(sd), numeric]


def _mean_and_sd(values: list[int]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, max(sum(value * value for value in values) / len(values) - mean * mean, 0.0) ** 0.5
