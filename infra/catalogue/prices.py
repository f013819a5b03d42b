"""Prices and context windows from `genai-prices`, carbon from `ecologits` (MPL-2.0).

The data lies in those packages; nothing is downloaded.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider, StartDateConstraint, TieredPrices

from infra.catalogue.limits import context_window
from infra.catalogue.models import Listed, listed_models
from modelpilot.metrics.use import PriceOrigin
from modelpilot.providers.catalogue import Unit, UnitPrice


@dataclass(frozen=True, slots=True)
class Pricing:
    """USD per token, the further prices by unit, and the window in tokens; None is unknown."""

    input_usd: float | None = None
    cached_input_usd: float | None = None
    output_usd: float | None = None
    prices: tuple[UnitPrice, ...] = ()
    context_window: int | None = None


# genai-prices' names of further units, and how many of each its prices are for.
_UNITS: Mapping[str, tuple[Unit, int]] = {
    "input_mtok": ("input", 1_000_000),
    "cache_read_mtok": ("cached_input", 1_000_000),
    "output_mtok": ("output", 1_000_000),
    "cache_write_mtok": ("cache_write_5m", 1_000_000),
    "cache_write_1h_mtok": ("cache_write_1h", 1_000_000),
    "input_audio_mtok": ("audio_input", 1_000_000),
    "output_audio_mtok": ("audio_output", 1_000_000),
    "input_image_mtok": ("image_input", 1_000_000),
    "output_image_mtok": ("image_output", 1_000_000),
    "requests_kcount": ("request", 1_000),
    "web_searches_kcount": ("web_search", 1_000),
}
_SIMPLE = ("input", "cached_input", "output")  # their first step has a field of its own


def pricing(model: Listed, at: datetime) -> Pricing:
    """The model's list prices at a point in time, at the standard tier."""
    info = _find(model.provider, model.provider_model)
    if info is None:
        return Pricing()
    listed = info.get_prices(at)
    steps = [
        UnitPrice(unit=unit, usd=usd, from_tokens=start)
        for name, (unit, per) in _UNITS.items()
        for start, usd in _steps(getattr(listed, name, None), per)
    ]
    simple = {each.unit: each.usd for each in steps if not each.from_tokens and each.unit in _SIMPLE}
    return Pricing(
        input_usd=simple.get("input"),
        cached_input_usd=simple.get("cached_input"),
        output_usd=simple.get("output"),
        prices=tuple(each for each in steps if each.from_tokens or each.unit not in _SIMPLE),
        context_window=context_window(model, info.context_window),
    )


def listed_origin(model: Listed, input_usd: float | None, output_usd: float | None) -> PriceOrigin | None:
    """From which day on genai-prices lists these prices (USD per token) of the model; None: it never does. Most of its
    prices have no day; the day on which somebody looked a price up is not in the package."""
    info = _find(model.provider, model.provider_model)
    if info is None:
        return None
    source = f"genai-prices {version('genai-prices')}"
    entries = info.prices if isinstance(info.prices, list) else [ConditionalPrice(prices=info.prices)]
    for entry in reversed(entries):
        if (_simple(entry.prices, "input"), _simple(entry.prices, "output")) == (input_usd, output_usd):
            begins = entry.constraint.start_date if isinstance(entry.constraint, StartDateConstraint) else None
            return PriceOrigin(source, begins)
    return None


def _simple(listed: ModelPrice, unit: Unit) -> float | None:
    """The first step of a unit that has a field of its own."""
    name, (_, per) = next(item for item in _UNITS.items() if item[1][0] == unit)
    return next((usd for start, usd in _steps(getattr(listed, name, None), per) if not start), None)


def _steps(price: Decimal | TieredPrices | None, per: int) -> Iterator[tuple[int, float]]:
    """From how many tokens of the prompt on what one unit costs."""
    tiers = price.tiers if isinstance(price, TieredPrices) else []
    base = price.base if isinstance(price, TieredPrices) else price
    # Zero marks a promotion or a gap in the data, never what a call will cost.
    found = [(0, base), *((tier.start + 1, tier.price) for tier in tiers)]
    yield from ((start, float(usd / per)) for start, usd in found if usd)


def openrouter_name(model: Listed) -> str | None:
    """The model's name at OpenRouter, where genai-prices lists one: `anthropic/claude-3-5-haiku` is spelled
    `anthropic/claude-3.5-haiku` there."""
    if model.provider == "openrouter":
        return model.provider_model
    spellings = (model.name, _dotted(model.name), model.name.removesuffix("-0"), f"{model.name}-001")
    known = {info.id for info in _provider("openrouter").models}
    return next((name for spelling in spellings if (name := f"{model.provider}/{spelling}") in known), None)


def _dotted(name: str) -> str:
    # claude-3-5-sonnet -> claude-3.5-sonnet, claude-opus-4-5 -> claude-opus-4.5
    parts = name.split("-")
    for index in range(len(parts) - 1):
        if parts[index].isdigit() and parts[index + 1].isdigit():
            return "-".join([*parts[:index], f"{parts[index]}.{parts[index + 1]}", *parts[index + 2 :]])
    return name


def _provider(provider_id: str) -> Provider:
    return next(provider for provider in get_snapshot().providers if provider.id == provider_id)


def _find(provider_id: str, name: str) -> ModelInfo | None:
    provider = _provider(provider_id)
    exact = next((info for info in provider.models if info.id == name), None)
    return exact or provider.find_model(name)


_PROVIDERS = {"google": "google_genai"}  # where it has another name for one of our kinds
# Vendors of open weights and of Mistral's models, which OpenRouter serves: the estimate is of the model, not the host.
_VENDORS = {"mistralai": "mistralai", "openai": "huggingface_hub", "meta-llama": "huggingface_hub"}


def carbon_g_per_1k_tokens(model: Listed) -> float | None:
    """gCO2e per 1,000 output tokens, the midpoint of the range that ecologits gives; None where it knows nothing.

    The model's own speed decides the duration (a request latency of infinity leaves it so); the electricity mix is
    that of the provider's location as ecologits states it, else the world's.
    """
    found = _kilograms(model)
    return None if found is None else sum(found) / 2 * 1_000


@lru_cache(maxsize=1)
def carbon_ranges() -> dict[str, tuple[float, float]]:
    """`{model: (lowest, highest)}` as multiples of the midpoint, for the models where ecologits gives a range."""
    found = {model.id: _kilograms(model) for model in listed_models()}
    return {
        name: (2 * low / (low + high), 2 * high / (low + high))
        for name, (low, high) in ((name, kilograms) for name, kilograms in found.items() if kilograms)
        if high > low
    }


def _kilograms(model: Listed) -> tuple[float, float] | None:
    """kgCO2e of 1,000 output tokens: the ends of the range, twice the same where it is one figure."""
    found = _registered(model)
    if found is None:
        return None
    from ecologits.tracers.utils import llm_impacts

    # It warns, on stderr, that closed models are estimates; our docs say so once for all.
    logging.getLogger("ecologits").setLevel(logging.ERROR)
    impacts = llm_impacts(found[0], found[1], output_token_count=1_000, request_latency=math.inf)
    if impacts.gwp is None:
        return None
    value = impacts.gwp.value
    low, high = (value, value) if isinstance(value, int | float) else (value.min, value.max)
    return float(low), float(high)


def _registered(model: Listed) -> tuple[str, str] | None:
    # Looked up first, since ecologits logs a warning for each model that it does not know.
    provider: str | None = _PROVIDERS.get(model.provider, model.provider)
    names: tuple[str, ...] = (model.provider_model, model.name)
    if model.provider == "openrouter":
        vendor, _, short = model.name.partition("/")
        provider, names = _VENDORS.get(vendor), (short, model.name, f"{vendor}/meta-{short}")
    by_name = _names()
    keys = ((provider, name.lower()) for name in names)
    return next((by_name[key] for key in keys if key in by_name), None)


@lru_cache(maxsize=1)
def _names() -> dict[tuple[str | None, str], tuple[str, str]]:
    from ecologits.model_repository import models

    return {
        (_value(each.provider), each.name.lower()): (_value(each.provider), each.name) for each in models.list_models()
    }


def _value(provider: Any) -> str:
    return str(getattr(provider, "value", provider))
