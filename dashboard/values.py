"""Values of metrics in words and on axes, by their unit."""

from dashboard.formats import UNKNOWN, format_count, format_grams, format_ms, format_share, format_usd
from modelpilot.metrics.explore import Metric, Unit, Value

# What an axis is called, and its tick format (d3). No exponents and no milli-dollars.
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
