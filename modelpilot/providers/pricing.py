"""What calls cost (USD) and emit (gCO2e). Where a price or a figure is unknown the result is unknown, never zero.

Prices are USD per token. Amounts are multiples of 1e-12 USD, which a float writes exactly below 1,000 USD: so the lines
of a bill add up to it to the last digit, and the attempts of a request to its cost.
"""

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from modelpilot.arrays import Floats
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec, Unit
from modelpilot.providers.kinds import KINDS, ProviderKind
from modelpilot.requests.outcome import Attempt, Usage

Prices = Mapping[Unit, Decimal]

_SMALLEST_USD = Decimal("1e-12")
# Exact for any count and price, however absurd, that a provider or a catalogue may name.
_EXACT = Context(prec=100)


class BillLine(NamedTuple):
    """So many of one unit came to `usd`."""

    unit: Unit
    quantity: int
    usd: float


def bill(usage: Usage, prices: Prices) -> tuple[BillLine, ...]:
    """What a call is charged for, a line for every unit that it used; `total_usd` of the lines is what it costs."""
    cached, written = min(usage.cached_tokens, usage.input_tokens), usage.cache_write_tokens
    quantities: dict[Unit, int] = {
        "input": max(usage.input_tokens - cached - written, 0),
        "cached_input": cached,
        "cache_write_5m": usage.cache_write_5m_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "output": usage.output_tokens,
    }
    return tuple(BillLine(unit, count, _charge(count, prices[unit])) for unit, count in quantities.items() if count)


def total_usd(amounts: Iterable[float]) -> float:
    """What amounts of a bill come to, added as they are written and not as binary fractions."""
    return float(sum(map(_decimal, amounts), Decimal()))


def prices_of(model: ModelSpec, kind: ProviderKind | None = None, prompt_tokens: int = 0) -> Prices | None:
    """The prices of a call with a prompt of so many tokens at a provider of this kind; None where that of input or
    output is unknown. Cached input without a price of its own costs what input does, and writing to a cache costs the
    multiple of that which the kind is known for."""
    fresh, output = model.price("input", prompt_tokens), model.price("output", prompt_tokens)
    if fresh is None or output is None:
        return None
    cached = model.price("cached_input", prompt_tokens)
    written = model.price("cache_write_5m", prompt_tokens), model.price("cache_write_1h", prompt_tokens)
    return _prices(fresh, output, cached, *written, kind)


@lru_cache(maxsize=4_096)
def _prices(
    fresh_usd: float,
    output_usd: float,
    cached_usd: float | None,
    five_minutes_usd: float | None,
    hour_usd: float | None,
    kind: ProviderKind | None,
) -> Prices:
    fresh, cache = _decimal(fresh_usd), KINDS[kind].cache if kind is not None else None
    factors = map(_decimal, cache.write_factors if cache is not None else (1.0, 1.0))
    usual_five, usual_hour = (fresh * factor for factor in factors)
    five_minutes = usual_five if five_minutes_usd is None else _decimal(five_minutes_usd)
    return {
        "input": fresh,
        "cached_input": fresh if cached_usd is None else _decimal(cached_usd),
        "cache_write_5m": five_minutes,
        "cache_write_1h": max(usual_hour, five_minutes) if hour_usd is None else _decimal(hour_usd),
        "output": _decimal(output_usd),
    }


def call_cost_usd(model: ModelSpec, usage: Usage, kind: ProviderKind | None = None) -> float | None:
    """What a call cost by its token counts at a provider of this kind; None: unknown."""
    prices = prices_of(model, kind, usage.input_tokens)
    return None if prices is None else total_usd(line.usd for line in bill(usage, prices))


def call_costs_usd(
    columns: CatalogueColumns, input_tokens: Floats, output_tokens: Floats, cached_tokens: Floats | float
) -> Floats:
    """`call_cost_usd` of every model by its own token counts [models], of which so many of the input are read from its
    cache; NaN is unknown."""
    cached = np.minimum(cached_tokens, input_tokens)
    fresh = input_tokens - cached
    return fresh * columns.input_price + cached * columns.cached_price + output_tokens * columns.output_price


def _charge(count: int, price: Decimal) -> float:
    return float(_EXACT.quantize(_EXACT.multiply(Decimal(count), price), _SMALLEST_USD))


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value))  # as it is written: 1e-06, not the binary fraction next to it


TOKENS_PER_UNIT = 1_000.0
_FIELD = "carbonGPer1kTokens"


def carbon_g(attempts: Iterable[Attempt], specs: Mapping[str, Mapping[str, Any]]) -> float | None:
    """gCO2e of all calls together, failed ones included: the catalogue's figure per 1,000 tokens times their tokens.
    None where a model that used tokens has no known figure.

    `specs` has the catalogue entries (ModelSpec as JSON) by model id.
    """
    total = 0.0
    for attempt in attempts:
        tokens = attempt.usage.total_tokens
        per_unit = specs.get(attempt.model, {}).get(_FIELD)
        if tokens and per_unit is None:
            return None
        total += tokens / TOKENS_PER_UNIT * (per_unit or 0.0)
    return total


def carbon_range_g(
    by_model: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> tuple[float, float] | None:
    """Between which gCO2e the sum over models lies. `ranges` are multiples of a model's own figure; a model without one
    counts as it is. None where no model with emissions has a range."""
    if not any(grams > 0.0 and model in ranges for model, grams in by_model.items()):
        return None
    factors = {model: ranges.get(model, (1.0, 1.0)) for model in by_model}
    low, high = (sum(grams * factors[model][end] for model, grams in by_model.items()) for end in (0, 1))
    return low, high
