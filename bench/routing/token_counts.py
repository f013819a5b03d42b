"""How far counts of tokens are off, by kind of text, for `modelpilot bench decision`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.report import table
from bench.routing.token_texts import texts
from modelpilot.chat.tokens import EXACT_CHARACTERS, count_exactly, count_tokens
from modelpilot.providers.token_ratios import TokenRatios, TokenReport
from simulator.text import count_tokens as words_in

_ROUNDS = 20
_SHORT = 1_000
_REPORTS = 32


def measure_counts() -> list[dict[str, Any]]:
    """JSON: for each kind of text the exact count, the errors in per cent of a quarter of the characters, of the
    sample, and of the sample with what a model that counts words has taught; ms per 1,000 characters."""
    return [_measured(name, text) for name, text in texts().items()]


def _measured(name: str, text: str) -> dict[str, Any]:
    exact = count_exactly(text)
    words = words_in(text)
    return {
        "text": name,
        "characters": len(text),
        "tokens": exact,
        "charactersPerToken": round(len(text) / exact, 2),
        "quarterErrorPercent": _error(len(text) / 4, exact),
        "sampleErrorPercent": _error(count_tokens(text), exact),
        "learntErrorPercent": None if words < exact / 4 else _error(count_tokens(text) * _learnt(text), words),
        "msPer1000": round(_quickest_ms(text[:_SHORT]), 4),
        "msWhole": round(_quickest_ms(text), 3),
    }


def _learnt(text: str) -> float:
    """The ratio after some calls of the simulator's model, each with another part of the text."""
    ratios, size = TokenRatios(), len(text) // _REPORTS
    for begin in range(0, size * _REPORTS, size):
        part = text[begin : begin + size]
        ratios.note(TokenReport("bench", "sim", count_tokens(part), words_in(part)))
    return ratios.of("bench").get("sim", 1.0)


def _error(found: float, exact: int) -> float:
    return round(100.0 * (found / exact - 1.0), 1)


def _quickest_ms(text: str) -> float:
    taken = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        count_tokens(text)
        taken.append((time.perf_counter() - began) * 1_000.0)
    return min(taken)


def counts_table(found: Sequence[Mapping[str, Any]]) -> Any:
    """A line for each kind of text."""
    columns = ("text", "characters", "tokens", "per token", "quarter %", "sample %", "learnt %", "ms/1,000", "ms whole")
    rows = [
        (
            each["text"],
            f"{each['characters']:,}",
            f"{each['tokens']:,}",
            f"{each['charactersPerToken']:.2f}",
            f"{each['quarterErrorPercent']:+.0f}",
            f"{each['sampleErrorPercent']:+.1f}",
            "–" if each["learntErrorPercent"] is None else f"{each['learntErrorPercent']:+.1f}",
            f"{each['msPer1000']:.3f}",
            f"{each['msWhole']:.2f}",
        )
        for each in found
    ]
    return table(
        f"Tokens counted, of texts beyond {EXACT_CHARACTERS:,} characters by a sample", columns, rows, texts=("text",)
    )
