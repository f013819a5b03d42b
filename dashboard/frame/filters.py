"""What stands above the data of a page and has a name in the URL: filters, and other controls."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import dash_mantine_components as dmc

from dashboard.frame.elements import Element
from dashboard.frame.urls import query
from modelpilot.metrics.dimensions import TAG
from modelpilot.metrics.explore import DIRECT
from modelpilot.metrics.overview import NO_MODEL, Choices
from modelpilot.metrics.requests import RequestFilter

NO_CHOICES = Choices()


@dataclass(frozen=True, slots=True)
class Filter:
    """`name` is the one in the URL. What can be chosen is `values`, or what the database has of `choices`."""

    name: str
    label: str
    choices: Literal["routers", "models", "providers", "tenants", "users", "keys", "tag_values"] | None = None
    values: tuple[tuple[str, str], ...] = ()  # (value, label)


@dataclass(frozen=True, slots=True)
class Control:
    """A choice that always has a value or, without `values` (value, label), a text to look for.

    `name` is the one in the URL. A choice at its default leaves the URL short. `tags`: it also offers the tags that are
    dimensions, as `tag.NAME`.
    """

    name: str
    label: str
    values: tuple[tuple[str, str], ...] = ()
    default: str = ""
    placeholder: str = ""
    tags: bool = False

    def value(self, search: str | None) -> str:
        """What the URL says, or the default where that makes no sense."""
        said = query(search).get(self.name, self.default)
        known = not self.values or said in dict(self.values) or (self.tags and tag_of(said) is not None)
        return said if known else self.default

    def options(self, known: Choices, chosen: str) -> list[dict[str, str]]:
        """What it offers; always what is chosen, too."""
        offered = dict(self.values) | ({TAG + name: f"Tag {name}" for name in known.tags} if self.tags else {})
        if (name := tag_of(chosen)) is not None:
            offered.setdefault(chosen, f"Tag {name}")
        return [{"value": value, "label": label} for value, label in offered.items()]

    def in_url(self, chosen: str | None) -> str | None:
        """How the URL says what was chosen; None: not at all."""
        text = (chosen or "").strip()
        return None if text == self.default else text


ROUTER = Filter("router", "Router", choices="routers")
MODEL = Filter("model", "Model", choices="models")
PROVIDER = Filter("provider", "Provider", choices="providers")
TENANT = Filter("as", "User", choices="tenants")  # every frame has it, and shows it to those who have a choice
STATUS = Filter("status", "Status", values=(("completed", "Completed"), ("failed", "Failed"), ("canceled", "Canceled")))
FALLBACK = Filter("fallback", "Fallback", values=(("yes", "Fell back"), ("no", "First choice")))
TYPES = (
    "chat", "code", "math", "extraction", "summarization", "translation", "creative", "classification", "tool_use",
    "vision",
)  # fmt: skip
TYPE = Filter("type", "Request type", values=tuple((name, name) for name in TYPES))
PURPOSE = Filter(
    "purpose", "Paid for", values=(("request", "Requests"), ("embedding", "Embeddings"), ("judge", "Judge"))
)
USER = Filter("user", "End user", choices="users")
KEY = Filter("key", "API key", choices="keys")
TAGS = Filter("tag", "Tag", choices="tag_values")  # its values are as `tags_in_url` writes them
SESSION = Control("session", "Session", placeholder="Its whole name")
WHOSE = (USER, KEY, TAGS, PURPOSE)
REQUEST_ID = "requestId"  # a control of the list of requests
_NAMELESS = (DIRECT, NO_MODEL)


def filter_id(page: str, one: Filter) -> str:
    """The id of a filter's control on a page."""
    return f"{page}-filter-{one.name}"


def filter_row(page: str, filters: tuple[Filter, ...], search: str) -> Element:
    """The controls, with what the URL says chosen. The choice of a user comes last, and shows up where there is one."""
    controls = [_filter(page, one, query(search).get(one.name)) for one in filters]
    tenant = _filter(page, TENANT, query(search).get(TENANT.name), display="none")
    return dmc.Group([*controls, tenant], gap="sm", className="mp-filters")


def control_id(page: str, one: Control) -> str:
    """The id of a control on a page."""
    return f"{page}-control-{one.name}"


def control_row(page: str, controls: tuple[Control, ...], search: str) -> Element:
    """The controls side by side, with what the URL says."""
    return dmc.Group([_control(page, one, search) for one in controls], gap="sm", className="mp-filters")


def options(one: Filter, known: Choices, chosen: str | None) -> list[dict[str, str]]:
    """What a filter offers; always what is chosen, too, or the control could not show it."""
    names: tuple[Any, ...] = getattr(known, one.choices) if one.choices else ()
    if one is TAGS:
        pairs = [tags_in_url({name: value}) for name, value in names]
        offered = [(value, tags_in_words(value)) for value in pairs]
    else:
        offered = [*one.values, *(name if isinstance(name, tuple) else (name, name) for name in names)]
    if chosen and chosen not in dict(offered):
        offered.append((chosen, tags_in_words(chosen) if one is TAGS else chosen))
    return [{"value": value, "label": label} for value, label in offered]


def tag_of(group: str) -> str | None:
    """The tag that `tag.NAME` groups by; None: it is no such group."""
    return group.removeprefix(TAG) or None if group.startswith(TAG) else None


def tags_in_url(tags: Mapping[str, str]) -> str:
    """Tags as one value of a URL: `team=red&customer=acme`. A tag without a value means those that do not have it."""
    return urlencode(tags)


def tags_from_url(value: str | None) -> dict[str, str]:
    """The tags that `tags_in_url` wrote."""
    return {name: said for name, said in parse_qsl(value or "", keep_blank_values=True) if name}


def tags_in_words(value: str) -> str:
    """`team: red, customer: acme`."""
    return ", ".join(f"{name}: {said or NO_MODEL}" for name, said in tags_from_url(value).items()) or value


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


def of_whose(values: Mapping[str, str]) -> RequestFilter:
    """Those, and whose requests they are."""
    return replace(
        of_names(values),
        end_user=named(values.get(USER.name)),
        key=named(values.get(KEY.name)),
        session=named(values.get(SESSION.name)),
        purpose=values.get(PURPOSE.name),
        tags=tags_from_url(values.get(TAGS.name)) or None,
    )


def of_list(values: Mapping[str, str]) -> RequestFilter:
    """All filters of the list of requests."""
    return replace(
        of_whose(values),
        status=values.get("status"),
        request_type=values.get("type"),
        fallback={"yes": True, "no": False}.get(values.get("fallback", "")),
        request_id=values.get(REQUEST_ID),
    )


def _filter(page: str, one: Filter, chosen: str | None, display: str | None = None) -> Element:
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


def _control(page: str, one: Control, search: str) -> Element:
    shared: dict[str, Any] = {"id": control_id(page, one), "label": one.label, "value": one.value(search), "size": "xs"}
    shared["w"] = {"base": "calc(50% - 6px)", "xs": 200}
    if not one.values:
        return dmc.TextInput(**shared, placeholder=one.placeholder, debounce=True)
    return dmc.Select(**shared, data=one.options(NO_CHOICES, one.value(search)), allowDeselect=False)
