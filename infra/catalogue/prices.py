"""Prices and context windows from the data inside `genai-prices`; nothing is downloaded."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider, TieredPrices

from infra.catalogue.models import Listed

# Google's documented windows, where genai-prices has none.
_CONTEXT_WINDOWS = dict.fromkeys(("gemini-2.5-pro", "gemini-3-pro-preview", "gemini-3.1-pro-preview"), 1_048_576)


@dataclass(frozen=True, slots=True)
class Pricing:
    """USD per token and the window in tokens; None is unknown."""

    input_usd: float | None = None
    cached_input_usd: float | None = None
    output_usd: float | None = None
    context_window: int | None = None


def pricing(model: Listed, at: datetime) -> Pricing:
    """The model's list prices at a point in time: standard tier, and for prompts below the first price step."""
    info = _find(model.provider, model.provider_model)
    if info is None:
        return Pricing()
    prices = info.get_prices(at)
    return Pricing(
        input_usd=_per_token(prices.input_mtok),
        cached_input_usd=_per_token(prices.cache_read_mtok),
        output_usd=_per_token(prices.output_mtok),
        context_window=info.context_window or _CONTEXT_WINDOWS.get(model.name),
    )


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


def _per_token(price: Decimal | TieredPrices | None) -> float | None:
    base = price.base if isinstance(price, TieredPrices) else price
    # Zero marks a promotion or a gap in the data, never what a call will cost.
    return float(base / 1_000_000) if base else None
