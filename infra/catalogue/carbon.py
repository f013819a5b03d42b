"""Carbon per 1,000 output tokens from `ecologits` (MPL-2.0; its data lies in the package)."""

import logging
import math
from functools import lru_cache
from typing import Any

from infra.catalogue.models import Listed

_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "google_genai"}
# Vendors of open weights and of Mistral's models, which OpenRouter serves: the estimate is of the model, not the host.
_VENDORS = {"mistralai": "mistralai", "openai": "huggingface_hub", "meta-llama": "huggingface_hub"}


def carbon_g_per_1k_tokens(model: Listed) -> float | None:
    """gCO2e per 1,000 output tokens, the midpoint of the range that ecologits gives; None where it knows nothing.

    The model's own speed decides the duration (a request latency of infinity leaves it so); the electricity mix is
    that of the provider's location as ecologits states it, else the world's.
    """
    found = _registered(model)
    if found is None:
        return None
    from ecologits.tracers.utils import llm_impacts

    # It warns, on stderr, that closed models are estimates; our docs say so once for all.
    logging.getLogger("ecologits").setLevel(logging.ERROR)
    impacts = llm_impacts(found[0], found[1], output_token_count=1_000, request_latency=math.inf)
    if impacts.gwp is None:
        return None
    kilograms = impacts.gwp.value
    midpoint = kilograms if isinstance(kilograms, int | float) else (kilograms.min + kilograms.max) / 2
    return float(midpoint) * 1_000


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
