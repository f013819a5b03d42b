"""What calls cost (USD) and emit (gCO2e). Where a price or a figure is unknown the result is unknown, never zero.

Prices are USD per token. Amounts are multiples of 1e-12 USD, which a float writes exactly below 1,000 USD: so the lines
of a bill add up to it to the last digit, and the attempts of a request to its cost.
"""

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from modelpilot.arrays import Floats
from modelpilot.providers.catalogue import CatalogueColumns, ModelSpec, Unit
from modelpilot.providers.kinds import KINDS, ProviderKind
from modelpilot.requests.outcome import Attempt, BillLine, Usage

Prices = Mapping[Unit, Decimal | None]

_SMALLEST_USD = Decimal("1e-12")
# Exact for any count and price, however absurd, that a provider or a catalogue may name.
_EXACT = Context(prec=100)
CHARGED = "provider"  # the unit of a bill that the provider made itself


def quantities(usage: Usage) -> Mapping[Unit, int]:
    """How much of each unit a call used. Sound, pictures and what was written to a cache are priced by themselves; of
    the rest of the input, so much was read from a cache."""
    own = usage.cache_write_tokens + usage.audio_input_tokens + usage.image_input_tokens
    rest = max(usage.input_tokens - own, 0)
    cached = min(usage.cached_tokens, rest)
    return {
        "input": rest - cached,
        "cached_input": cached,
        "cache_write_5m": usage.cache_write_5m_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "audio_input": usage.audio_input_tokens,
        "image_input": usage.image_input_tokens,
        "output": max(usage.output_tokens - usage.audio_output_tokens - usage.image_output_tokens, 0),
        "audio_output": usage.audio_output_tokens,
        "image_output": usage.image_output_tokens,
        "request": 1,
        "web_search": usage.web_searches,
    }


def bill(usage: Usage, prices: Prices) -> tuple[BillLine, ...]:
    """What a call is charged for, a line for every unit that it used and that is not free of charge by its nature;
    `total_usd` of the lines is what it costs."""
    used = ((unit, count) for unit, count in quantities(usage).items() if count)
    return tuple(BillLine(unit, count, _charge(count, prices[unit])) for unit, count in used if unit in prices)


def total_usd(amounts: Iterable[float]) -> float:
    """What amounts of a bill come to, added as they are written and not as binary fractions."""
    return float(sum(map(_decimal, amounts), Decimal()))


def sum_of(lines: Iterable[BillLine]) -> float | None:
    """What a bill comes to; None where one of its lines is unknown."""
    return sum_of_known(line.usd for line in lines)


def sum_of_known(costs: Iterable[float | None]) -> float | None:
    """What costs come to; None where one of them is unknown."""
    amounts = list(costs)
    known = [usd for usd in amounts if usd is not None]
    return total_usd(known) if len(known) == len(amounts) else None


def merged(bills: Iterable[Iterable[BillLine]]) -> tuple[BillLine, ...]:
    """The bill of several calls together, a line for each unit."""
    lines: dict[str, BillLine] = {}
    for line in (line for each in bills for line in each):
        known = lines.get(line.unit, BillLine(line.unit, 0, 0.0))
        usd = None if known.usd is None or line.usd is None else total_usd((known.usd, line.usd))
        lines[line.unit] = BillLine(line.unit, known.quantity + line.quantity, usd)
    return tuple(lines.values())


def prices_of(
    model: ModelSpec, kind: ProviderKind | None = None, prompt_tokens: int = 0, tier: str | None = None
) -> Prices:
    """The prices of a call with a prompt of so many tokens, at a provider of this kind and at this service tier; None
    is unknown. Cached input without a price of its own costs what input does, as do sound and pictures, and writing to
    a cache costs the multiple of that which the kind is known for. A fee without a price is none."""

    def price(unit: Unit) -> float | None:
        return model.price(unit, prompt_tokens, tier)

    own: dict[Unit, float | None] = {unit: price(unit) for unit in _UNITS}
    return _prices(tuple(own.items()), kind)


_UNITS: tuple[Unit, ...] = (
    "input", "output", "cached_input", "cache_write_5m", "cache_write_1h",
    "audio_input", "audio_output", "image_input", "image_output", "request", "web_search",
)  # fmt: skip
_AS_INPUT: tuple[Unit, ...] = ("cached_input", "audio_input", "image_input")
_AS_OUTPUT: tuple[Unit, ...] = ("audio_output", "image_output")
_FEES: tuple[Unit, ...] = ("request", "web_search")


@lru_cache(maxsize=4_096)
def _prices(own: tuple[tuple[Unit, float | None], ...], kind: ProviderKind | None) -> Prices:
    said = {unit: None if usd is None else _decimal(usd) for unit, usd in own}
    fresh, output, cache = said["input"], said["output"], KINDS[kind].cache if kind is not None else None
    found: dict[Unit, Decimal | None] = {"input": fresh, "output": output}
    found |= {unit: fresh if said[unit] is None else said[unit] for unit in _AS_INPUT}
    found |= {unit: output if said[unit] is None else said[unit] for unit in _AS_OUTPUT}
    found |= {unit: said[unit] for unit in _FEES if said[unit] is not None}
    factors = map(_decimal, cache.write_factors if cache is not None else (1.0, 1.0))
    usual_five, usual_hour = (None if fresh is None else fresh * factor for factor in factors)
    five_minutes, hour = said["cache_write_5m"], said["cache_write_1h"]
    five_minutes = usual_five if five_minutes is None else five_minutes
    if hour is None and usual_hour is not None and five_minutes is not None:
        hour = max(usual_hour, five_minutes)
    return {**found, "cache_write_5m": five_minutes, "cache_write_1h": hour}


def bill_of(
    model: ModelSpec, usage: Usage, kind: ProviderKind | None = None, tier: str | None = None
) -> tuple[BillLine, ...]:
    """The bill of a call by its counts at a provider of this kind."""
    return bill(usage, prices_of(model, kind, usage.input_tokens, tier))


def call_cost_usd(model: ModelSpec, usage: Usage, kind: ProviderKind | None = None) -> float | None:
    """What a call cost by its counts at a provider of this kind, at the standard tier; None: unknown."""
    return sum_of(bill_of(model, usage, kind))


def call_costs_usd(
    columns: CatalogueColumns, input_tokens: Floats, output_tokens: Floats, cached_tokens: Floats | float
) -> Floats:
    """`call_cost_usd` of every model by its own token counts [models], of which so many of the input are read from its
    cache; NaN is unknown."""
    cached = np.minimum(cached_tokens, input_tokens)
    fresh = input_tokens - cached
    return fresh * columns.input_price + cached * columns.cached_price + output_tokens * columns.output_price


def _charge(count: int, price: Decimal | None) -> float | None:
    if price is None:
        return None
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
