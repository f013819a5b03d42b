"""From samples to figures: percentiles, rates and differences. Pure arithmetic."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

PERCENTILES = (50, 95, 99)

Percentiles = dict[str, float]


@dataclass(slots=True)
class Phase:
    """What one uninterrupted run of one kind of call gave.

    `latencies_ms` has the successful calls, `errors` counts the failed ones by reason, `degraded` counts answers that
    had to do without a part. `answered_s` ends with the last answer; `durable_s` ends when the last workflow closed
    (None: nothing durable was asked for). `cpu_ms` is the processor time of each process from the first call until all
    of that was done (None: it is unknown, because the process was restarted).
    """

    latencies_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    degraded: int = 0
    answered_s: float = 0.0
    durable_s: float | None = None
    cpu_ms: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one kind of call over all rounds. Rates are per second; None where nothing was measured."""

    samples: int
    errors: dict[str, int]
    degraded: int
    percentiles_ms: Percentiles
    mean_ms: float | None
    answered_per_s: float | None
    durable_per_s: float | None
    round_p50_ms: list[float]
    round_per_s: list[float]
    cpu_ms_per_call: dict[str, float | None]


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample below which `percent` of all lie, interpolated linearly.

    Raises ValueError for no samples or a percentage outside [0, 100].
    """
    if not samples or not 0.0 <= percent <= 100.0:
        raise ValueError("a percentile needs samples and a percentage between 0 and 100")
    return float(np.percentile(samples, percent))


def percentiles(samples: Sequence[float]) -> Percentiles:
    """`{"p50": …, "p95": …, "p99": …}`; empty for no samples."""
    return {f"p{percent}": percentile(samples, percent) for percent in PERCENTILES} if samples else {}


def added(measured: Percentiles, baseline: Percentiles) -> Percentiles:
    """Percentile minus the same percentile of the baseline, for those that both have. May be negative."""
    return {name: value - baseline[name] for name, value in measured.items() if name in baseline}


def summarize(phases: Sequence[Phase]) -> Summary:
    """Figures over all rounds: percentiles of the pooled samples, rates as all calls over all their time."""
    pooled = [latency for phase in phases for latency in phase.latencies_ms]
    errors: Counter[str] = Counter()
    for phase in phases:
        errors.update(phase.errors)
    durable = [phase for phase in phases if phase.durable_s is not None]
    return Summary(
        samples=len(pooled),
        errors=dict(errors),
        degraded=sum(phase.degraded for phase in phases),
        percentiles_ms=percentiles(pooled),
        mean_ms=math.fsum(pooled) / len(pooled) if pooled else None,
        answered_per_s=_rate(len(pooled), math.fsum(phase.answered_s for phase in phases)),
        durable_per_s=_rate(
            sum(len(phase.latencies_ms) for phase in durable), math.fsum(phase.durable_s or 0.0 for phase in durable)
        ),
        round_p50_ms=[percentile(phase.latencies_ms, 50) for phase in phases if phase.latencies_ms],
        round_per_s=[rate for phase in phases if (rate := _phase_rate(phase)) is not None],
        cpu_ms_per_call=per_call([phase.cpu_ms for phase in phases], len(pooled)),
    )


def per_call(cpu_ms: Sequence[Mapping[str, float | None]], calls: int) -> dict[str, float | None]:
    """All processor time of each process by all calls; None where any part of it is unknown. Empty for no calls."""
    names = dict.fromkeys(name for phase in cpu_ms for name in phase) if calls else {}
    found = {name: [phase.get(name) for phase in cpu_ms] for name in names}
    return {name: _mean_of_known(values, calls) for name, values in found.items()}


def per_unit(large: float | None, small: float | None, units: int) -> float | None:
    """What one more unit costs, when `large` has `units` more of them than `small`; None where either is unknown."""
    return None if large is None or small is None else (large - small) / units


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of the straight line through (x, y) points by least squares; None where they give none."""
    if len({x for x, _ in points}) < 2:
        return None
    xs, ys = np.array(points, dtype=float).T
    centred = xs - xs.mean()
    return float(centred @ (ys - ys.mean()) / (centred @ centred))


def share(measured_per_s: float | None, reference_per_s: float | None) -> float | None:
    """One rate as a share of another; None where either is unknown."""
    if measured_per_s is None or not reference_per_s:
        return None
    return measured_per_s / reference_per_s


def _mean_of_known(values: Sequence[float | None], calls: int) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / calls if len(known) == len(values) else None


def _phase_rate(phase: Phase) -> float | None:
    return _rate(len(phase.latencies_ms), phase.answered_s if phase.durable_s is None else phase.durable_s)


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds > 0.0 else None
