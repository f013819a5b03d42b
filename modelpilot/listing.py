"""What the catalogue says of a router's models, as columns: worked out once per version, not with every request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelpilot.catalogue import NEUTRAL_LATENCY_MS, NEUTRAL_QUALITY, ModelSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Listing:
    """Arrays are [models]. Unknown qualities and latencies are neutral; unknown prices (USD per token), all of a model
    where that of input or output is, and `carbon_g_per_1k_tokens` are NaN."""

    models: tuple[str, ...]
    places: Mapping[str, int]  # where each model stands
    quality: Floats
    quality_listed: NDArray[np.bool_]
    latency_ms: Floats
    input_price: Floats
    cached_price: Floats
    output_price: Floats
    carbon_g_per_1k_tokens: Floats

    @classmethod
    def of(cls, specs: Sequence[ModelSpec]) -> "Listing":
        """The models in this order."""
        models = tuple(spec.id for spec in specs)
        input_price = _column([spec.cost_per_input_token for spec in specs])
        output_price = _column([spec.cost_per_output_token for spec in specs])
        priced = ~np.isnan(input_price + output_price)
        cached_price = _column([spec.cost_per_cached_input_token for spec in specs])
        quality = _column([spec.quality_score for spec in specs])
        latency = _column([spec.avg_latency_ms for spec in specs])
        listed = ~np.isnan(quality)
        return cls(
            models=models,
            places={model: place for place, model in enumerate(models)},
            quality=np.where(listed, quality, NEUTRAL_QUALITY),
            quality_listed=listed,
            latency_ms=np.where(np.isnan(latency), NEUTRAL_LATENCY_MS, latency),
            input_price=np.where(priced, input_price, np.nan),
            # The input price where the catalogue has none.
            cached_price=np.where(np.isnan(cached_price), input_price, cached_price),
            output_price=np.where(priced, output_price, np.nan),
            carbon_g_per_1k_tokens=_column([spec.carbon_g_per_1k_tokens for spec in specs]),
        )


def _column(values: Sequence[float | None]) -> Floats:
    return np.array(values, np.float64)  # None becomes NaN
