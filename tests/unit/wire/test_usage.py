"""Reports of token counts, wherever a server puts them and whatever it calls them."""

from typing import Any

import pytest

from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.usage import charged_usd, has_total_only, parse_usage, usage_in

COUNTS = {"prompt_tokens": 5, "completion_tokens": 3}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0}


@pytest.mark.parametrize(
    "chunk",
    [
        {"usage": COUNTS},
        {"x_groq": {"id": "x", "usage": COUNTS}, "choices": []},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": COUNTS}]},
        {"usage": ZEROS, "x_groq": {"usage": COUNTS}},
        {"usage": None, "choices": [{"usage": COUNTS}]},
        {"prompt_eval_count": 5, "eval_count": 3},
    ],
)
def test_a_report_is_found(chunk: dict[str, Any]) -> None:
    """OpenAI's, Groq's, Moonshot's and Ollama's places; the one with counts where there are several."""
    found = parse_usage(usage_in(chunk))
    assert (found.input_tokens, found.output_tokens) == (5, 3)


@pytest.mark.parametrize(
    "chunk", [{}, {"usage": None}, {"usage": "5"}, {"choices": [None, {"usage": 5}]}, {"x_groq": 1}]
)
def test_without_a_report_there_is_none(chunk: dict[str, Any]) -> None:
    """And nothing breaks."""
    assert usage_in(chunk) is None


def test_zeros_at_the_end_do_not_undo_a_report() -> None:
    """Some servers count on the way, and send an empty report with the last chunk."""
    assembler = ChunkAssembler()
    for usage in (COUNTS, ZEROS, {}):
        assembler.add({"choices": [], "usage": usage})
    assert assembler.usage.output_tokens == 3


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"cost": 0.00123}, 0.00123),
        ({"cost": 0}, 0.0),
        ({"cost": {"total_cost": 0.5, "input_tokens_cost": 0.1}}, 0.5),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.2}}, 0.21),
        ({"cost": 0.01, "is_byok": True, "cost_details": {}}, None),
        ({"cost": -1.0}, None),
        ({"cost": float("nan")}, None),
        ({"cost": 1e30}, None),
        ({"cost": True}, None),
        ({"cost": "0.5"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_what_the_provider_charged(usage: Any, usd: float | None) -> None:
    """OpenRouter's figure, with the bill of the key's owner where that pays the model; nonsense is no figure."""
    assert charged_usd(usage) == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(
    ("usage", "alone"),
    [({"total_tokens": 8}, True), (COUNTS, False), ({"total_tokens": 8, **ZEROS}, True), ({}, False)],
)
def test_a_total_alone_is_known_as_such(usage: Any, alone: bool) -> None:
    """Then somebody has to divide it."""
    assert has_total_only(usage) == alone
