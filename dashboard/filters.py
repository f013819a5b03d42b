"""Filters of a page: each is a control above the data and a name in the URL."""

from dataclasses import dataclass
from typing import Literal

import dash_mantine_components as dmc

from dashboard.elements import Element
from dashboard.urls import query
from modelpilot.metrics.overview import Choices

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
