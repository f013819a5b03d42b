"""Counting the tokens of texts, by OpenAI's newest vocabulary (o200k_base). Other models count the same text within a
factor of their own, which is learnt (`modelpilot.providers.token_ratios`)."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from itertools import accumulate
from typing import Protocol

import numpy as np

VOCABULARY = "o200k_base"
# So many characters are counted one by one, some 14 million in a second; of longer prompts as many are a sample.
EXACT_CHARACTERS = 16_384
SLICES = 32
SLICE_CHARACTERS = EXACT_CHARACTERS // SLICES
# Where in its share of the text each slice begins: evenly spread, and never in step with a text that repeats itself.
_GOLDEN = 0.6180339887498949


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


@cache
def tokenizer() -> _Tokenizer:
    """The vocabulary, loaded once from its wheel: 0.1 s and 67 MB, so a process that serves does it at its start.
    Raises ImportError where the wheel is not installed."""
    # The compiled module alone: the package around it reads another vocabulary into Python objects when it is imported
    # (0.4 s and 130 MB in all), and refuses long texts.
    package = find_spec("bpe_openai")
    spec = PathFinder.find_spec("_bindings", package.submodule_search_locations) if package is not None else None
    if spec is None or spec.loader is None:
        raise ImportError("the wheel of bpe-openai is not installed")
    compiled = module_from_spec(spec)
    spec.loader.exec_module(compiled)
    loaded: _Tokenizer = compiled.tokenizer_for_encoding(VOCABULARY)
    loaded.count(" ")  # what there is to build is built by the first count
    return loaded


def count_exactly(text: str) -> int:
    """The tokens of the whole text, however long. Special tokens in it are plain text; a lone surrogate counts as the
    "?" that is sent in its place."""
    try:
        return tokenizer().count(text)
    except UnicodeEncodeError:
        return tokenizer().count(text.encode("utf-8", "replace").decode())


def count_tokens(text: str) -> int:
    """The tokens of one text; of a long one, as `count_each` finds them."""
    return count_each((text,))[0]


def count_each(texts: Sequence[str]) -> list[int]:
    """The tokens of each text. All together have at most EXACT_CHARACTERS of theirs looked at.

    More than that is cut, one text behind the other, into SLICES equal shares, and each share has as many tokens to a
    character as a slice of it: a stratified sample, within some two per cent for prose and code.
    """
    ends = list(accumulate(map(len, texts)))
    if not ends or ends[-1] <= EXACT_CHARACTERS:
        return [count_exactly(text) for text in texts]
    edges = np.linspace(0.0, ends[-1], SLICES + 1)
    share = ends[-1] / SLICES
    until = [0.0]
    for number in range(SLICES):
        begin = int(edges[number] + (share - SLICE_CHARACTERS) * (number * _GOLDEN % 1.0))
        until.append(until[-1] + share / SLICE_CHARACTERS * _tokens_between(texts, ends, begin))
    reached = np.rint(np.interp(ends, edges, until)).astype(np.int64)
    return [int(count) for count in np.diff(reached, prepend=0)]


def _tokens_between(texts: Sequence[str], ends: Sequence[int], begin: int) -> int:
    """The tokens of the slice that begins at this character of all texts together."""
    return sum(count_exactly(piece) for piece in _pieces(texts, ends, begin, begin + SLICE_CHARACTERS))


def _pieces(texts: Sequence[str], ends: Sequence[int], begin: int, end: int) -> Iterator[str]:
    at = bisect_right(ends, begin)
    while begin < end and at < len(texts):
        start = ends[at] - len(texts[at])
        yield texts[at][begin - start : end - start]
        begin, at = ends[at], at + 1
