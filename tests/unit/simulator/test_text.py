"""The simulator's pure text, answers, schemas and embeddings."""

import json
from enum import Enum
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from simulator import answers
from simulator.answers import embed
from simulator.models import DEFAULT, MODELS, find
from simulator.schema import Maker
from simulator.text import chunks, count_tokens, cut_at_stop, filler, pieces, resize, seeded


@given(st.text())
def test_pieces_lose_nothing(text: str) -> None:
    """Streamed pieces, joined, are the text byte for byte."""
    assert "".join(pieces(text)) == text
    assert "".join(chunks(text)) == text


@given(st.text(), st.integers(0, 80))
def test_resize_gives_the_asked_length(text: str, count: int) -> None:
    """Faults such as cut40 count on an answer of exactly the asked length."""
    assert len(pieces(resize(text, count, seeded("x")))) == count


@given(st.integers(0, 300), st.integers())
def test_filler_has_the_asked_words(count: int, seed: int) -> None:
    """Filler is as long as asked and depends on its seed alone."""
    assert count_tokens(filler(seeded(seed), count)) == count
    assert filler(seeded(seed), count) == filler(seeded(seed), count)


def test_stop_sequence_cuts_before_the_first_match() -> None:
    """The earliest stop sequence wins, and is not part of the answer."""
    assert cut_at_stop("one two three", ["three", "two"]) == ("one ", "two")
    assert cut_at_stop("one", ["", "x"]) == ("one", None)


@pytest.mark.parametrize(
    ("prompt", "right"),
    [
        ("What is 12 * 7?", "12 * 7 = 84."),
        ("please calculate 9 / 3", "9 / 3 = 3."),
        ("How much is 1 / 0", "1 / 0 is undefined."),
        ("what's -4 - 6?", "-4 - 6 = -10."),
        ("Compute 3 \u00d7 4", "3 * 4 = 12."),
        ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
        ("Reply with exactly: \u05e9\u05dc\u05d5\u05dd \U0001f600\n  x ", "\u05e9\u05dc\u05d5\u05dd \U0001f600\n  x "),
    ],
)
def test_known_shapes_are_answered(prompt: str, right: str) -> None:
    """Sums, capitals and echoes get their real answer, so that tests can check it."""
    assert answers.answer(prompt, right=True, length=50, rng=seeded(1)) == right


@pytest.mark.parametrize("prompt", ["What is 12 * 7?", "Capital of France?", "Explain routers"])
def test_wrong_answers_differ_and_are_marked(prompt: str) -> None:
    """A judge can tell wrong answers from right ones."""
    wrong = answers.answer(prompt, right=False, length=30, rng=seeded(1))
    assert wrong.startswith(answers.WRONG_MARKER)
    assert answers.answer(prompt, right=True, length=30, rng=seeded(1)) not in wrong


def test_easy_for_all_hard_for_large_only() -> None:
    """Quality orders the models: easy prompts are in reach of all, hard ones of large alone."""
    able = {
        prompt: [name for name, model in MODELS.items() if answers.difficulty(prompt) <= model.quality]
        for prompt in ("What is 12 * 7?", "[easy]", "[medium]", "[hard]", "What is 123456 * 654321?")
    }
    assert able == {
        "What is 12 * 7?": ["small", "medium", "large"],
        "[easy]": ["small", "medium", "large"],
        "[medium]": ["medium", "large"],
        "[hard]": ["large"],
        "What is 123456 * 654321?": ["large"],
    }


@given(st.text())
def test_difficulty_is_a_share(prompt: str) -> None:
    """Every prompt has a difficulty that large can meet."""
    assert 0.05 <= answers.difficulty(prompt) <= 0.95


def test_unknown_models_get_the_default() -> None:
    """Tests may keep real model names; prefixes do not hide the table's names."""
    assert find("gpt-4") is DEFAULT
    assert find("sim/small") is MODELS["small"]


class _Colour(Enum):
    RED = "red"
    BLUE = "blue"


class _Leaf(BaseModel):
    name: str = Field(min_length=12, max_length=20)
    colour: _Colour
    kind: Literal["leaf"]


class _Tree(BaseModel):
    leaf: _Leaf
    share: float = Field(gt=0, lt=1)
    count: int = Field(ge=5, le=7)
    even: int = Field(multiple_of=2)
    flags: list[bool] = Field(min_length=3)
    note: str | None
    children: list["_Tree"]
    left: "_Tree | None" = None


@given(st.integers())
def test_schema_values_are_valid(seed: int) -> None:
    """Structured output satisfies its schema, recursion, $ref, enums and ranges included (pydantic is the oracle)."""
    schema = _Tree.model_json_schema()
    value = Maker(seeded(seed), schema).make(schema)
    _Tree.model_validate_json(json.dumps(value), strict=False)


def test_schema_understands_all_of_and_gemini_spelling() -> None:
    """`allOf` is merged; Gemini's upper-case types mean the same."""
    schema = {"type": "OBJECT", "allOf": [{"properties": {"a": {"type": "INTEGER"}}}, {"required": ["b"]}]}
    value = Maker(seeded(1)).make(schema)
    assert isinstance(value["a"], int)
    assert isinstance(value["b"], str)


def test_judges_score_wrong_answers_low() -> None:
    """A simulated judge is of use: scores depend on whether the judged answer was wrong."""
    schema = {"type": "object", "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}}}
    assert Maker(seeded(1)).make(schema)["score"] > 0.8
    assert Maker(seeded(1), low_scores=True).make(schema)["score"] < 0.3


def test_similar_texts_have_similar_embeddings() -> None:
    """Similarity search over simulated embeddings finds texts that share words."""
    query = embed("how do I reset my password")
    near, far = embed("reset password how"), embed("bake a chocolate cake")
    assert query @ near > 0.6 > 0.4 > query @ far
    assert abs(float(query @ query) - 1) < 1e-5
