"""The surface of a prompt at the end of its vector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.estimation.surface import SURFACE_COLUMNS, split_surface, with_surface

MEANING = np.eye(64, dtype=np.float32)[3]
PROMPTS = (
    "Hi",
    "How many apples are left if Tom eats 3 of his 12 apples?",
    "What is true?\nOptions:\nA. 6.5 × 10^-4 mm\nB. 9 mm\nC. 7.45 mm",
    'Call it.\n\nTools: {"name": "f", "parameters": {"type": "dict", "properties": {}}}',
    "word " * 1_500,
)


@given(st.text(max_size=300))
def test_any_text_gives_a_unit_vector_of_fixed_length(text: str) -> None:
    """Nothing that a client may send yields NaN or another length."""
    vector = with_surface(MEANING, text)
    assert vector.shape == (64 + SURFACE_COLUMNS,)
    assert str(vector.dtype) == "float32"
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_what_is_appended_comes_back() -> None:
    """The meaning is found again, whatever the surface was."""
    for text in PROMPTS:
        meaning, surface = split_surface(with_surface(MEANING, text))
        np.testing.assert_allclose(meaning, MEANING, atol=1e-6)
        assert np.abs(surface).max() <= 3.0 + 1e-5


def test_similarity_still_means_the_cosine_of_the_meanings() -> None:
    """The surface moves an inner product by a few hundredths at most, even between very different looks."""
    for one in PROMPTS:
        for other in PROMPTS:
            across = with_surface(MEANING, one) @ with_surface(np.roll(MEANING, 1), other)
            assert abs(across) < 0.05
            assert with_surface(MEANING, one) @ with_surface(MEANING, other) > 0.9


def test_different_looks_have_different_surfaces() -> None:
    """Options, numbers and braces are told apart, and the same text is always the same."""
    surfaces = [split_surface(with_surface(MEANING, text))[1] for text in PROMPTS]
    for place, one in enumerate(surfaces):
        np.testing.assert_array_equal(one, split_surface(with_surface(MEANING, PROMPTS[place]))[1])
        for other in surfaces[place + 1 :]:
            assert np.abs(one - other).max() > 0.5


def test_short_vectors_have_no_surface() -> None:
    """Vectors of a foreign kind are taken whole."""
    meaning, surface = split_surface(np.ones((2, SURFACE_COLUMNS), np.float32))
    assert (meaning.shape, surface.shape) == ((2, SURFACE_COLUMNS), (2, 0))
    assert not split_surface(np.zeros(80, np.float32))[0].any()
