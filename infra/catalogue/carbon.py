"""Carbon per 1,000 output tokens from `ecologits` (MPL-2.0; its data lies in the package)."""

import logging
import math
from functools import lru_cache
from typing import Any

from infra.catalogue.models import Listed, listed_models

_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "google_genai"}
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
    provider = _PROVIDERS.get(model.provider)
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
