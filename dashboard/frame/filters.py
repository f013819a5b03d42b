"""Filters of a page: each is a control above the data and a name in the URL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import dash_mantine_components as dmc

from dashboard.frame.elements import Element
from dashboard.frame.urls import query
from modelpilot.metrics.explore import DIRECT
from modelpilot.metrics.overview import NO_MODEL, Choices
from modelpilot.metrics.requests import RequestFilter

NO_CHOICES = Choices()


@dataclass(frozen=True, slots=True)
class Filter:
    """`name` is the one in the URL. What can be chosen is `values`, or what the database has of `choices`."""

    name: str
    label: str
    choices: Literal["routers", "models", "providers", "tenants"] | None = None
    values: tuple[tuple[str, str], ...] = ()  # (value, label)


ROUTER = Filter("router", "Router", choices="routers")
MODEL = Filter("model", "Model", choices="models")
PROVIDER = Filter("provider", "Provider", choices="providers")
TENANT = Filter("as", "User", choices="tenants")  # every frame has it, and shows it to those who have a choice
STATUS = Filter("status", "Status", values=(("completed", "Completed"), ("failed", "Failed"), ("canceled", "Canceled")))


def filter_id(page: str, one: Filter) -> str:
    """The id of a filter's control on a page."""
    return f"{page}-filter-{one.name}"


def filter_row(page: str, filters: tuple[Filter, ...], search: str) -> Element:
    """The controls, with what the URL says chosen. The choice of a user comes last, and shows up where there is one."""
    controls = [_control(page, one, query(search).get(one.name)) for one in filters]
    tenant = _control(page, TENANT, query(search).get(TENANT.name), display="none")
    return dmc.Group([*controls, tenant], gap="sm", className="mp-filters")


def options(one: Filter, known: Choices, chosen: str | None) -> list[dict[str, str]]:
    """What a filter offers; always what is chosen, too, or the control could not show it."""
    names: tuple[str, ...] = getattr(known, one.choices) if one.choices else ()
    offered = [*one.values, *((name, name) for name in names)]
    if chosen and chosen not in dict(offered):
        offered.append((chosen, chosen))
    return [{"value": value, "label": label} for value, label in offered]


def _control(page: str, one: Filter, chosen: str | None, display: str | None = None) -> Element:
    return dmc.Select(
        id=filter_id(page, one),
        label=one.label,
        placeholder="All",
        value=chosen,
        data=options(one, NO_CHOICES, chosen),
        searchable=True,
        clearable=True,
        clearButtonProps={"aria-label": f"Clear {one.label.lower()}"},
        size="xs",
        w={"base": "calc(50% - 6px)", "xs": 160},
        display=display,
    )


# From the names of filters in a URL to the requests that they mean, and back.

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
