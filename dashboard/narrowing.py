"""From the names of filters in a URL to the requests that they mean, and back."""

from collections.abc import Mapping

from dashboard.filters import Filter
from modelpilot.metrics.explore import DIRECT, RequestFilter
from modelpilot.metrics.overview import NO_MODEL

FALLBACK = Filter("fallback", "Fallback", values=(("yes", "Fell back"), ("no", "First choice")))
TYPES = (
    "chat", "code", "math", "extraction", "summarization", "translation", "creative", "classification", "tool_use",
    "vision",
)  # fmt: skip
TYPE = Filter("type", "Request type", values=tuple((name, name) for name in TYPES))
REQUEST_ID = "requestId"

_NAMELESS = (DIRECT, NO_MODEL)


def named(value: str | None) -> str | None:
    """What a filter in the URL means: None does not narrow, "" are those without a name."""
    return "" if value in _NAMELESS else value


def shown_name(group_by: str, group: str) -> str:
    """A group in words, which are also those of its filter."""
    return group or (DIRECT if group_by == "router" else NO_MODEL)


def of_names(values: Mapping[str, str]) -> RequestFilter:
    """The filters that every page about requests has: router, model and provider."""
    return RequestFilter(
        router=named(values.get("router")), model=named(values.get("model")), provider=named(values.get("provider"))
    )


def of_list(values: Mapping[str, str]) -> RequestFilter:
    """All filters of the list of requests."""
    names = of_names(values)
    return RequestFilter(
        router=names.router,
        model=names.model,
        provider=names.provider,
        status=values.get("status"),
        request_type=values.get("type"),
        fallback={"yes": True, "no": False}.get(values.get("fallback", "")),
        request_id=values.get(REQUEST_ID),
    )
