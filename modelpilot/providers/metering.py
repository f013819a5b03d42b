"""What a call is billed by: the provider's report, or our estimate where that cannot be."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

from modelpilot.chat.tokens import count_each
from modelpilot.providers.pricing import CHARGED, sum_of
from modelpilot.requests.outcome import BillLine, Usage
from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.usage import MOST_TOKENS, charged_usd, has_total_only

# Providers that loop through tools of their own count a prompt once for each turn.
_WINDOWS = 20
_MOST_SEARCHES = 1_000


class Expected(NamedTuple):
    """What we reckon ourselves: tokens of the prompt and of what has come of the answer (0: nothing), and the model's
    context window (None: unknown)."""

    input_tokens: int
    output_tokens: int
    context_window: int | None = None


class Charge(NamedTuple):
    """What a call costs, as an `Attempt` says it."""

    bill: tuple[BillLine, ...] = ()
    cost_usd: float | None = 0.0
    list_cost_usd: float | None = None
    estimated: str | None = None


NO_CHARGE = Charge()


def charge(lines: tuple[BillLine, ...], report: Any, estimated: str | None) -> Charge:
    """What a call costs by its `lines` at our prices and its provider's `report` (None: there is none): what the
    provider charged itself is the bill, and no estimate."""
    own_usd, charged = sum_of(lines), charged_usd(report)
    if charged is None:
        return Charge(lines, own_usd, None, estimated)
    return Charge((BillLine(CHARGED, 1, charged),), charged, own_usd)


def counted(
    answer: ChunkAssembler, prompt_tokens: int, ratio: float, context_window: int | None, *, whole: bool
) -> tuple[Usage, str | None]:
    """What the provider reported of an answer, with our estimate where that cannot be, and then why (see `believable`);
    of one that is not `whole` the report may be of its beginning. The model counts `prompt_tokens` in the prompt, and
    `ratio` tokens to one of ours."""
    if not answer.content_started:
        return believable(answer.usage, Expected(0, 0, context_window))
    total_only = has_total_only(answer.reported)
    if whole and not total_only:
        found = believable(answer.usage, Expected(prompt_tokens, 1, context_window), whole=True)
        if found[1] is None:  # as nearly always: then nobody needs to count the answer
            return found
    written = math.ceil(sum(count_each(answer.output_texts)) * ratio)
    expected = Expected(prompt_tokens, max(written, 1), context_window)
    return believable(answer.usage, expected, whole=whole, total_only=total_only)


def believable(
    reported: Usage, expected: Expected, *, whole: bool = False, total_only: bool = False
) -> tuple[Usage, str | None]:
    """The counts to bill by, and why they are an estimate (None: they are the provider's).

    A call has no fewer than one token of each side that there was, and no more than twenty windows. Of an answer that
    is not `whole` the report may be of a part, so that the larger count stands. `total_only`: what is reported as input
    is both sides together.
    """
    most = MOST_TOKENS if expected.context_window is None else min(_WINDOWS * expected.context_window, MOST_TOKENS)
    sides = (
        ("input", reported.input_tokens, expected.input_tokens),
        ("output", reported.output_tokens, expected.output_tokens),
    )
    if total_only and reported.input_tokens <= most:
        output = min(expected.output_tokens, reported.input_tokens)
        return _within(reported, reported.input_tokens - output, output), "the provider counted both sides together"
    counts, reasons = [], []
    for side, said, ours in sides:
        reason = None
        if said > most:
            reason = f"the provider counted {said:.4g} {side} tokens, more than there can be"
        elif not said and ours:
            reason = f"the provider did not count the {side} tokens"
        counts.append(said if reason is None else ours)
        reasons += [reason] if reason else []
    if not reasons and (whole or reported.output_tokens >= expected.output_tokens):
        return _within(reported, reported.input_tokens, reported.output_tokens), None
    if not reasons:
        cut = _within(reported, reported.input_tokens, expected.output_tokens)
        return cut, "the answer was cut before its last count"
    return _within(reported, *counts), "; ".join(reasons)


def _within(reported: Usage, input_tokens: int, output_tokens: int) -> Usage:
    """The report with these sums; parts that do not fit are left out."""
    parts = (reported.cached_tokens, reported.cache_write_tokens, reported.audio_input_tokens)
    if sum(parts) + reported.image_input_tokens > input_tokens:
        reported = replace(reported, cached_tokens=0, cache_write_5m_tokens=0, cache_write_1h_tokens=0)
        reported = replace(reported, audio_input_tokens=0, image_input_tokens=0)
    if max(reported.reasoning_tokens, reported.audio_output_tokens + reported.image_output_tokens) > output_tokens:
        reported = replace(reported, reasoning_tokens=0, audio_output_tokens=0, image_output_tokens=0)
    searches = min(reported.web_searches, _MOST_SEARCHES)
    return replace(reported, input_tokens=input_tokens, output_tokens=output_tokens, web_searches=searches)
