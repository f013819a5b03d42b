"""Which router a page is about, out of those that the visitor may see, and links to the pages about it."""

from collections.abc import Mapping, Sequence

from dashboard.frame.elements import Element, command, notice
from dashboard.frame.frame import Asked
from dashboard.frame.page import PageContext
from dashboard.frame.urls import link
from modelpilot.metrics.use import RouterUse

DETAIL_PATH, WHAT_IF_PATH, FRONTIER_PATH = "/routers/detail", "/what-if", "/frontier"


def chosen(routers: Sequence[RouterUse], values: Mapping[str, str], name: str = "router") -> RouterUse | None:
    """The router that the URL names; of several owners' of that name, `owner`'s or the busiest. Where the URL names
    none, the busiest of all. `routers` are those of the visitor's scope: nothing in the URL widens them."""
    wanted, owner = values.get(name), values.get("owner")
    found = [one for one in routers if wanted in (None, one.router_id)]
    return next((one for one in found if one.user_id == owner), found[0] if found else None)


def read_chosen(context: PageContext, asked: Asked, name: str = "router") -> RouterUse | None:
    """The same, read. Raises DependencyUnavailable."""
    return chosen(context.reader.routers(asked.scope), asked.values, name)


def router_link(path: str, search: str, router: RouterUse) -> str:
    """A page about this router."""
    name = "id" if path == DETAIL_PATH else "router"
    return link(path, search, **{name: router.router_id}, owner=router.user_id)


def no_router_notice(values: Mapping[str, str], name: str = "router") -> Element:
    """There is no router, or none of this name."""
    if values.get(name):
        return notice(f"There is no router {values[name]}", "Choose another one, or clear the filter.", color="yellow")
    hint = (
        "Make one with ",
        command("modelpilot routers apply -f router.json"),
        ", or run ",
        command("modelpilot demo"),
    )
    return notice("No routers yet", *hint, ".", color="blue")
