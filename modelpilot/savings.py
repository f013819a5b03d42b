"""What routing saved against named baselines, out of sums over requests. Pure; `baselines` made the inputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from modelpilot.baselines import BASELINES

# Beside the baselines: the prediction for the model that answered, which shows how far predictions can be trusted.
AS_PREDICTED = "asPredicted"

STATEMENT = (
    "Measured: actual costs, from the token counts that providers reported and catalogue prices. Estimated: baseline "
    "costs of models that did not answer, as predicted before each call; carbon of both, from catalogue figures per "
    "1,000 tokens. Where the baseline's model answered, its measured cost counts. Only completed requests whose "
    "actual and baseline figures are both known are compared: see `requests` beside `completed`."
)


@dataclass(frozen=True, slots=True)
class BaselineSums:
    """Sums over the requests where both sides are known. `estimated`: how many baseline figures were predictions."""

    requests: int = 0
    estimated: int = 0
    cost_usd: float = 0.0
    actual_cost_usd: float = 0.0
    carbon_requests: int = 0
    carbon_g: float = 0.0
    actual_carbon_g: float = 0.0

    def plus(self, other: "BaselineSums") -> "BaselineSums":
        """Both together."""
        names = [each.name for each in fields(self)]
        return BaselineSums(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, slots=True)
class Saving:
    """Baseline less actual: positive is saved, negative was paid on top. Shares are of the baseline; None: no data."""

    baseline: str
    requests: int
    estimated_requests: int
    baseline_cost_usd: float
    actual_cost_usd: float
    saved_cost_usd: float
    saved_cost_share: float | None
    carbon_requests: int
    baseline_carbon_g: float
    actual_carbon_g: float
    saved_carbon_g: float
    saved_carbon_share: float | None


def savings(sums: Mapping[str, BaselineSums]) -> tuple[Saving, ...]:
    """One for each baseline, in their order, also where nothing is known of it."""
    return tuple(_saving(name, sums.get(name, BaselineSums())) for name in BASELINES)


def prediction_ratio(sums: Mapping[str, BaselineSums]) -> float | None:
    """Actual by predicted cost of the models that answered: 1 is right, 2 means that twice as much was paid.

    Multiply an estimated baseline by it to correct for answers that were longer or shorter than expected.
    """
    found = sums.get(AS_PREDICTED, BaselineSums())
    return found.actual_cost_usd / found.cost_usd if found.cost_usd > 0.0 else None


def added_up(parts: Iterable[tuple[str, BaselineSums]]) -> dict[str, BaselineSums]:
    """Sums by baseline, out of sums of disjoint sets of requests."""
    total: dict[str, BaselineSums] = {}
    for name, sums in parts:
        total[name] = total.get(name, BaselineSums()).plus(sums)
    return total


def _saving(name: str, sums: BaselineSums) -> Saving:
    saved_usd, saved_g = sums.cost_usd - sums.actual_cost_usd, sums.carbon_g - sums.actual_carbon_g
    return Saving(
        baseline=name,
        requests=sums.requests,
        estimated_requests=sums.estimated,
        baseline_cost_usd=sums.cost_usd,
        actual_cost_usd=sums.actual_cost_usd,
        saved_cost_usd=saved_usd,
        saved_cost_share=saved_usd / sums.cost_usd if sums.cost_usd > 0.0 else None,
        carbon_requests=sums.carbon_requests,
        baseline_carbon_g=sums.carbon_g,
        actual_carbon_g=sums.actual_carbon_g,
        saved_carbon_g=saved_g,
        saved_carbon_share=saved_g / sums.carbon_g if sums.carbon_g > 0.0 else None,
    )
