"""The Routers page: every router with its settings and use. Pages about one router find it here, too."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Output, html

from dashboard.frame.elements import Element, command, notice, page_link, panel, two_lines
from dashboard.frame.formats import UNKNOWN, format_age, format_count, format_share, format_usd
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.tables import Table, csv_button, labelled_table, register_csv
from dashboard.frame.urls import ROUTER_PATH, ROUTERS_PATH, requests_link, router_link
from modelpilot.metrics.use import PredictorState, RouterUse
from modelpilot.routing.router import Objective

COLUMNS = (
    "Router", "Chooses", "Models", "Objective", "Exploration", "Version", "Requests", "Cost", "Predictor",
)  # fmt: skip
CSV_COLUMNS = (
    "owner", "id", "name", "mode", "models", "objective", "exploration", "version", "updatedAt", "requests",
    "costUsd", "requestsOfUnknownCost", "predictorVersion", "predictorFittedAt", "predictorRows", "refusedAt",
    "refusedBecause",
)  # fmt: skip
MODES = {"smartRouter": "by score", "preferredModel": "preferred model"}
_PARTS = ("cost", "latency", "quality", "carbon")
_MODELS_SHOWN = 4

FRAME = PageFrame("routers", "Routers", skeleton=(320,))
TABLE = FRAME.id("table")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(context, search, panel("All routers", csv_button(FRAME), html.Div(id=TABLE)))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    def table(asked: Asked) -> Table:
        return routers_csv(context.reader.routers(asked.scope), asked)

    register_csv(app, context, FRAME, "modelpilot-routers.csv", table)

    @FRAME.fills(app, context, Output(TABLE, "children"))
    def fill(asked: Asked) -> Filled:
        routers = context.reader.routers(asked.scope)
        said = None if routers else no_router_notice({})
        return Filled((routers_table(routers, asked, context.clock()),), said, hidden=not routers)


PAGE = Page(path=ROUTERS_PATH, title="Routers", layout=layout, register=register)


def chosen(routers: Sequence[RouterUse], values: Mapping[str, str], name: str = "router") -> RouterUse | None:
    """The router that the URL names; of several owners' of that name, `owner`'s or the busiest. Where the URL names
    none, the busiest of all. `routers` are those of the visitor's scope: nothing in the URL widens them."""
    wanted, owner = values.get(name), values.get("owner")
    found = [one for one in routers if wanted in (None, one.router_id)]
    return next((one for one in found if one.user_id == owner), found[0] if found else None)


def read_chosen(context: PageContext, asked: Asked, name: str = "router") -> RouterUse | None:
    """The router that a page about one router shows, as `chosen` picks it. Raises DependencyUnavailable."""
    return chosen(context.reader.routers(asked.scope), asked.values, name)


def no_router_notice(values: Mapping[str, str], name: str = "router") -> Element:
    """There is no router, or none of the name in the URL."""
    if values.get(name):
        return notice(f"There is no router {values[name]}", "Choose another one, or clear the filter.", color="yellow")
    hint = (
        "Make one with ",
        command("modelpilot routers apply -f router.json"),
        ", or run ",
        command("modelpilot demo"),
    )
    return notice("No routers yet", *hint, ".", color="blue")


def routers_table(routers: Sequence[RouterUse], asked: Asked, now_s: float) -> Element:
    """One row per router. Owners are named where there is more than one tenant to see."""
    rows = [
        (
            two_lines(_link(one, asked), _whose(one, asked)),
            MODES.get(str(one.body.get("mode")), str(one.body.get("mode"))),
            models_text(one.body),
            weights_text(one.body),
            format_share(float(one.body.get("exploration") or 0.0)),
            two_lines(str(one.version), format_age(now_s - one.updated_at), className="mp-nowrap"),
            page_link(format_count(one.requests), requests_link(asked.search, router=one.router_id)),
            html.Span(cost_text(one), className="mp-nowrap"),
            predictor_text(one.predictor, now_s),
        )
        for one in routers
    ]
    return labelled_table(COLUMNS, rows, numeric=(4, 6, 7))


def routers_csv(routers: Sequence[RouterUse], asked: Asked) -> Table:
    """Every router with all figures of the table."""

    def at(moment: float | None) -> str | None:
        return None if moment is None else asked.zone.time(moment)

    rows = [
        (
            one.user_id,
            one.router_id,
            one.body.get("name"),
            one.body.get("mode"),
            " ".join(one.body.get("availableModels") or ()),
            weights_text(one.body),
            one.body.get("exploration"),
            one.version,
            at(one.updated_at),
            one.requests,
            one.cost_usd,
            one.unknown_cost,
            one.predictor.version,
            at(one.predictor.fitted_at),
            one.predictor.rows,
            at(one.predictor.refused_at),
            one.predictor.refused_because,
        )
        for one in routers
    ]
    return CSV_COLUMNS, rows


def weights_text(body: Mapping[str, Any]) -> str:
    """`quality 60 %, cost 40 %`: the shares of the objective, the largest first; nothing that has no share."""
    shares = Objective.model_validate(body.get("objective") or {}).shares()
    named = sorted(zip(_PARTS, shares, strict=True), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {share * 100:.0f} %" for name, share in named if share > 0.0)


def models_text(body: Mapping[str, Any]) -> Element | str:
    """The models by name, or how many there are."""
    models = body.get("availableModels") or []
    if body.get("mode") == "preferredModel":
        return str(body.get("preferredModel"))
    if len(models) <= _MODELS_SHOWN:
        return ", ".join(models)
    return two_lines(f"{len(models)} models", f"{', '.join(models[:2])} …")


def cost_text(router: RouterUse) -> str:
    """What the requests of the range cost, as far as it is known."""
    if router.requests and router.unknown_cost == router.requests:
        return UNKNOWN
    known = format_usd(router.cost_usd)
    return f"{known} + {router.unknown_cost:,} unknown" if router.unknown_cost else known


def predictor_text(predictor: PredictorState, now_s: float) -> Element | str:
    """Which fit takes part in decisions, and the last one that was refused."""
    if predictor.version is None or predictor.fitted_at is None:
        return two_lines("none yet", f"refused: {predictor.refused_because}") if predictor.refused_at else "none yet"
    used = f"version {predictor.version}"
    age = f"{format_age(now_s - predictor.fitted_at)}, {predictor.rows:,} rows"
    return two_lines(used, f"{age}; then refused: {predictor.refused_because}" if predictor.refused_at else age)


def _link(router: RouterUse, asked: Asked) -> Element:
    return page_link(router.router_id, router_link(ROUTER_PATH, asked.search, router))


def _whose(router: RouterUse, asked: Asked) -> str:
    name = str(router.body.get("name") or "")
    owner = f"of {router.user_id}" if asked.scope.user_id is None else ""
    return ", ".join(part for part in (name if name != router.router_id else "", owner) if part)
