"""Tokens of texts: exact for short ones, by a sample for long ones."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat import tokens
from modelpilot.chat.tokens import (
    EXACT_CHARACTERS,
    SLICE_CHARACTERS,
    SLICES,
    count_each,
    count_exactly,
    count_tokens,
    tokenizer,
)

_DRAW = random.Random(7)
LONG = {
    "prose": Path("docs/architecture.md").read_text(encoding="utf-8"),
    "chinese": "模型按照价格、速度和质量来选择。今天的天气很好，我们明天再讨论这个问题。" * 550,
    "code": Path("infra/vectors/hot_copy.py").read_text(encoding="utf-8") * 4,
    "hex": _DRAW.randbytes(40_000).hex(),
    "json": json.dumps([{"id": number, "name": f"user {number}", "tags": ["a", "b"]} for number in range(4_000)]),
    "one letter": "a" * 100_000,
    "spaces": " " * 100_000,
    "emoji": "👩‍💻 👍🏽 ready " * 4_000,
}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("hello world", 2),
        ("<|endoftext|>", 7),
        ("<|im_start|>system", 7),
        ("\x00", 1),
        ("\ud800", 1),
    ],
    ids=["empty", "words", "end-of-text", "turn", "nul", "surrogate"],
)
def test_short_texts_are_counted_exactly(text: str, count: int) -> None:
    """Special tokens are plain text there, and nothing raises."""
    assert count_tokens(text) == count_exactly(text) == count


@pytest.mark.parametrize("kind", sorted(LONG))
def test_a_sample_of_a_long_text_says_nearly_the_same(kind: str) -> None:
    """Within five per cent of the whole."""
    assert len(LONG[kind]) > EXACT_CHARACTERS
    assert count_tokens(LONG[kind]) == pytest.approx(count_exactly(LONG[kind]), rel=0.05)


def test_kinds_side_by_side_are_told_apart() -> None:
    """Each text of a prompt has its own density, however long the others are, and short ones lie among them."""
    texts = [LONG["hex"], "ok", LONG["prose"][:30_000], "", LONG["chinese"]]
    found, exact = count_each(texts), [count_exactly(text) for text in texts]
    assert sum(found) == pytest.approx(sum(exact), rel=0.05)
    assert [found[place] for place in (0, 2, 4)] == [pytest.approx(exact[place], rel=0.15) for place in (0, 2, 4)]


def test_chinese_and_hex_are_not_quarters_of_their_characters() -> None:
    """What an estimate by characters was wrong by a factor about."""
    assert count_tokens("人工智能正在改变世界，我们需要理解它。" * 1_026) == pytest.approx(10_260, rel=0.05)
    assert count_tokens(LONG["hex"][:8_000]) > 4_000


class _Counting:
    """A tokenizer that notes how much it was given."""

    def __init__(self) -> None:
        self.seen = 0

    def count(self, text: str) -> int:
        self.seen += len(text)
        return len(text)


@pytest.mark.parametrize("texts", [["word " * 2_000_000], ["x" * 9] * 100_000], ids=["one", "many"])
def test_no_prompt_takes_more_than_the_sample(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten megabytes as many characters are looked at as of a page."""
    noted = _Counting()
    monkeypatch.setattr(tokens, "tokenizer", lambda: noted)
    assert sum(count_each(texts)) == sum(map(len, texts))
    assert noted.seen <= SLICES * SLICE_CHARACTERS


ANY = st.text(st.characters(exclude_categories=()), max_size=400)


@given(ANY)
def test_every_text_has_a_count(text: str) -> None:
    """Lone surrogates, NUL and all: never negative, at most one to a byte."""
    assert 0 <= count_tokens(text) <= len(text.encode("utf-8", "surrogatepass"))


@given(ANY, ANY)
def test_more_text_has_hardly_fewer_tokens(text: str, more: str) -> None:
    """A token at the seam may swallow a few of those before it, and no more."""
    assert count_tokens(text + more) >= count_tokens(text) - 8


@given(st.lists(st.sampled_from(sorted(LONG)), min_size=1, max_size=3), st.integers(1, 20_000))
def test_a_longer_prompt_has_hardly_fewer_tokens_where_it_is_sampled(kinds: list[str], length: int) -> None:
    """Beyond the sample as well, and where the sample begins."""
    text = "".join(LONG[kind][:length] for kind in kinds)
    assert count_tokens(f"{text}{LONG['prose'][:length]}") >= 0.9 * count_tokens(text)


def test_the_vocabulary_is_loaded_once() -> None:
    """It has some 200,000 tokens."""
    assert tokenizer() is tokenizer()
