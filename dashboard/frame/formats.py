"""Numbers, times and values of metrics as a reader wants to see them. None shows as a dash: unknown is not zero."""

import math
from datetime import UTC, datetime
from decimal import Decimal

from modelpilot.metrics.explore import Metric, Unit, Value

UNKNOWN = "\u2013"
# What the axis of a metric is called, and its tick format (d3). No exponents and no milli-dollars.
AXES: dict[Unit, tuple[str, str]] = {
    "requests": ("requests", ",d"),
    "share": ("share of requests", ".0%"),
    "USD": ("USD", "$,.6~f"),
    "ms": ("milliseconds", ",.1~f"),
    "tokens": ("tokens", "~s"),
    "gCO2e": ("g CO\u2082e", ",.6~f"),
    "score": ("quality, 0 to 1", ".2~f"),
    "attempts": ("provider calls per request", ".2~f"),
}


def format_count(value: int) -> str:
    """A whole number with thousands separators."""
    return f"{value:,}"


def format_usd(value: float | None) -> str:
    """An amount in USD: cents from one dollar on, three significant digits below (a request may cost 0.00002)."""
    if value is None:
        return UNKNOWN
    if value < 0.0:
        return f"\u2212{format_usd(-value)}"
    if value == 0.0 or value >= 1.0:
        return f"${value:,.2f}"
    return f"${value:.{2 - math.floor(math.log10(value))}f}"


def exact_usd(value: float | None) -> str:
    """An amount in USD with every digit that it has, at least two behind the point: what adds up on paper."""
    if value is None:
        return UNKNOWN
    digits = f"{abs(Decimal(repr(value))):,f}"
    whole, _, part = digits.partition(".")
    sign = "\u2212" if value < 0.0 else ""
    return f"{sign}${whole}.{part.rstrip('0').ljust(2, '0')}"


def format_ms(value: float | None) -> str:
    """A duration in milliseconds, or in seconds from ten seconds on."""
    if value is None:
        return UNKNOWN
    if value >= 10_000.0:
        return f"{value / 1_000.0:,.1f} s"
    return f"{value:,.0f} ms" if value >= 100.0 else f"{value:.1f} ms"


def format_share(value: float | None) -> str:
    """A share in [0, 1] as a percentage with one decimal."""
    return UNKNOWN if value is None else f"{value * 100.0:.1f} %".replace("-", "\u2212")


def format_grams(value: float | None) -> str:
    """A mass of CO2e in µg, mg, g or kg, three significant digits."""
    if value is None:
        return UNKNOWN
    if value < 0.0:
        return f"\u2212{format_grams(-value)}"
    if value == 0.0:
        return "0 g"
    units = (("kg", 1_000.0), ("g", 1.0), ("mg", 0.001))
    unit, size = next(((unit, size) for unit, size in units if value >= size), ("\u00b5g", 1e-6))
    scaled = value / size
    return f"{scaled:,.0f} {unit}" if scaled >= 100.0 else f"{scaled:#.3g} {unit}"


def format_age(seconds: float) -> str:
    """How long ago something was. Clocks of two machines differ a little, so the future counts as now."""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{int(seconds // size_s)} {unit} ago"
    return f"{int(max(seconds, 0.0))} s ago"


def utc(unix_s: float) -> datetime:
    """Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(unix_s, UTC)


def format_value(value: float | None, unit: Unit) -> str:
    """A value with its unit; None shows as a dash."""
    if value is None:
        return UNKNOWN
    if unit == "USD":
        return format_usd(value)
    if unit == "ms":
        return format_ms(value)
    if unit == "share":
        return format_share(value)
    if unit == "tokens":
        return format_tokens(round(value))
    if unit == "gCO2e":
        return format_grams(value)
    return f"{value:.3f}" if unit == "score" else f"{value:.2f}" if unit == "attempts" else format_count(round(value))


def format_tokens(tokens: int) -> str:
    """Whole below ten thousand, then in k and M with three digits."""
    if tokens < 10_000:
        return f"{tokens:,}"
    if tokens < 999_500:
        return f"{tokens / 1e3:.3g} k"
    return f"{tokens / 1e6:.3g} M" if tokens < 999_500_000 else f"{tokens / 1e6:,.0f} M"


def format_known(value: Value, metric: Metric) -> str:
    """A value that may be that of a part: "$0.12 + 3 unknown"."""
    text = format_value(value.value, metric.unit)
    return f"{text} + {value.unknown:,} unknown" if value.unknown else text


def unit_in_csv(metric: Metric) -> str:
    """The heading of a metric's column: key and unit, without blanks."""
    return f"{metric.key} ({metric.unit})"
