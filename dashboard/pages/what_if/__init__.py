"""The What-if page: logged decisions under other settings, before anybody changes them.

The proposed settings live in the URL (`proposal`); what a replay of them gives is shown by `results`.
"""

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update
from dash.exceptions import PreventUpdate

from dashboard.frame.elements import (
    Element,
    chart_panel,
    command,
    dimmed,
    in_browser,
    nothing_here_notice,
    notice,
    page_link,
    panel,
)
from dashboard.frame.filters import ROUTER
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame, moved_inputs
from dashboard.frame.tables import Table, behind_chart, csv_button, register_csv
from dashboard.frame.urls import ROUTER_PATH, WHAT_IF_PATH, link, router_link, search_with
from dashboard.pages.routers import no_router_notice, read_chosen, weights_text
from dashboard.pages.what_if import proposal, results
from modelpilot.errors import DependencyUnavailable, ModelPilotError
from modelpilot.metrics.ports import MOST_DECISIONS
from modelpilot.metrics.use import RouterUse

FRAME = PageFrame("what-if", "What-if", filters=(ROUTER,), skeleton=(160, 92, 320))
WEIGHTS = tuple(FRAME.id(part) for part in proposal.PARTS)
LIMITS = tuple(FRAME.id(limit) for limit in ("max-cost", "max-latency", "min-quality"))
ABOUT = FRAME.id("about")
MODELS = FRAME.id("models")
EXPLORE = FRAME.id("explore")
CARDS = FRAME.id("cards")
EVIDENCE = FRAME.id("evidence")
PREDICTED = FRAME.id("predicted")
CHART = FRAME.id("chart")
CHART_TABLE = FRAME.id("chart-table")
OUTCOME = FRAME.id("outcome")
FILE = FRAME.id("file")
COPY = FRAME.id("copy")
COPIED = FRAME.id("copied")
_LIMIT_FIELDS = (("Highest cost (USD)", 0.001), ("Highest latency (ms)", 100), ("Lowest quality (0 to 1)", 0.05))
_CONTROLS = (*WEIGHTS, MODELS, EXPLORE, *LIMITS)


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    shown = [
        html.Div(id=CARDS),
        html.Div(id=EVIDENCE),
        panel(
            "By prediction",
            dimmed("What the models were expected to do with these requests.", mb="xs"),
            csv_button(FRAME),
            html.Div(id=PREDICTED),
        ),
        chart_panel("Share per model", CHART, CHART_TABLE),
        panel(
            "By outcome",
            dimmed(
                "What was measured, carried over to the proposal. The expected value starts from the predictions and "
                "corrects them by measured outcomes. The cross-check has outcomes only, weighted by how likely the "
                "proposal makes the choice that was made.",
                mb="xs",
            ),
            html.Div(id=OUTCOME),
        ),
        panel("Make it so", *_file()),
    ]
    return FRAME.layout(context, search, dmc.Stack([_controls(), *shown]))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    _register_controls(app, context)
    in_browser(
        app, "copy", Output(COPIED, "children"), Input(COPY, "n_clicks"), State(FILE, "children"), at_start=False
    )

    def table(asked: Asked) -> Table:
        router = read_chosen(context, asked)
        return results.csv_rows(_replayed(context, asked, router)) if router else ((), ())

    register_csv(app, context, FRAME, "modelpilot-what-if.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(ABOUT, "children"),
        Output(CARDS, "children"),
        Output(EVIDENCE, "children"),
        Output(PREDICTED, "children"),
        Output(CHART, "figure"),
        Output(CHART, "style"),
        Output(CHART_TABLE, "children"),
        Output(OUTCOME, "children"),
        Output(FILE, "children"),
    )
    def fill(asked: Asked) -> Filled:
        router = read_chosen(context, asked)
        if router is None:
            return Filled((no_update,) * 9, no_router_notice(asked.values), hidden=True)
        try:
            found = _replayed(context, asked, router)
        except DependencyUnavailable:
            raise
        except ModelPilotError as error:  # e.g. a model name that cannot be one
            refused = notice("This cannot be replayed", error.message, color="yellow")
            return Filled((_about(router, asked), *(no_update,) * 8), refused)
        if not found["requests"]:
            about = _about(router, asked)
            return Filled((about, *(no_update,) * 8), nothing_here_notice("decisions to replay"), hidden=True)
        return Filled(_results(router, found, asked))


PAGE = Page(path=WHAT_IF_PATH, title="What-if", layout=layout, register=register)


def _controls() -> Element:
    sliders = [
        html.Div(
            [
                dmc.Text(part.capitalize(), size="sm", id=f"{slider}-name"),
                dmc.Slider(
                    id=slider,
                    min=0,
                    max=100,
                    step=1,
                    value=25,
                    thumbLabel=f"Weight of {part}",
                    labelAlwaysOn=True,
                    mt=34,
                    mb="sm",
                ),
            ]
        )
        for part, slider in zip(proposal.PARTS, WEIGHTS, strict=True)
    ]
    limits = [
        dmc.NumberInput(id=one, label=label, min=0, step=step, placeholder="No limit", size="xs", debounce=500)
        for one, (label, step) in zip(LIMITS, _LIMIT_FIELDS, strict=True)
    ]
    explore = dmc.NumberInput(id=EXPLORE, label="Exploration (%)", min=0, max=100, step=1, size="xs", debounce=500)
    models = dmc.MultiSelect(
        id=MODELS, label="Models", searchable=True, size="xs", mb="sm", debounce=500, hidePickedOptions=True
    )
    return panel(
        "Proposed settings",
        html.Div(id=ABOUT),
        dmc.SimpleGrid(sliders, cols={"base": 1, "xs": 2, "md": 4}, spacing="lg", verticalSpacing="xs"),
        models,
        dmc.SimpleGrid([*limits, explore], cols={"base": 2, "md": 4}, spacing="sm"),
    )


def _file() -> list[Element]:
    copy = dmc.Button("Copy", id=COPY, variant="default", size="xs")
    said = html.Span(id=COPIED, role="status")
    hint = dmc.Text(
        ["Save it as router.json and run ", command("modelpilot routers apply -f router.json"), "."],
        size="sm",
        mb="xs",
    )
    body = html.Pre(id=FILE, className="mp-code", tabIndex="0")
    whole = html.Details([html.Summary("The whole router as JSON", className="mp-summary"), body])
    return [hint, dmc.Group([copy, said], gap="sm", mb="xs"), whole]


def _replayed(context: PageContext, asked: Asked, router: RouterUse) -> dict[str, Any]:
    body = proposal.replay_body(asked, router.body)
    return context.workbench.replay(router.user_id, router.router_id, {**body, "limit": MOST_DECISIONS})


def _results(router: RouterUse, found: dict[str, Any], asked: Asked) -> tuple[Any, ...]:
    figure = results.shares_figure(found)
    columns, rows = results.shares_rows(found)
    return (
        _about(router, asked),
        results.cards(found, MOST_DECISIONS),
        results.evidence_notice(found),
        results.predicted_table(found),
        figure,
        {"height": figure.layout.height},
        behind_chart(columns, rows, numeric=(1, 2, 3)),
        results.outcome_table(found),
        results.router_text(proposal.proposed_router(asked.values, router.body)),
    )


def _about(router: RouterUse, asked: Asked) -> Element:
    """Which router, what it is set to, and the way back to that."""
    owner = f" of {router.user_id}" if asked.scope.user_id is None else ""
    name = page_link(router.router_id, router_link(ROUTER_PATH, asked.search, router))
    today = f"{owner}, today {weights_text(router.body)}. "
    changed = any(asked.values.get(one) for one in proposal.NAMES)
    back = page_link("Back to today's settings", _without_proposal(asked)) if changed else ""
    return dmc.Text(["Router ", name, today, back], size="sm", mb="sm")


def _without_proposal(asked: Asked) -> str:
    return link(WHAT_IF_PATH, asked.search, router=asked.values.get("router"), owner=asked.values.get("owner"))


def _register_controls(app: Dash, context: PageContext) -> None:
    url = FRAME.id("url")

    @app.callback(
        Output(url, "search", allow_duplicate=True),
        Output(MODELS, "data"),
        *(Output(control, "value") for control in _CONTROLS),
        Input(url, "search"),
        *(Input(control, "value") for control in _CONTROLS),
        prevent_initial_call="initial_duplicate",
    )
    def sync(search: str, *given: Any) -> tuple[Any, ...]:
        """The controls write the URL; the URL sets the controls, where it says nothing as the router has it."""
        try:
            asked = FRAME.asked(context, search)
            router = read_chosen(context, asked)
            known = context.reader.choices(asked.scope.user_id).models if router else ()
        except DependencyUnavailable:
            raise PreventUpdate from None
        if router is None:
            raise PreventUpdate
        shown = proposal.shown(asked.values, router.body)
        moved = moved_inputs()
        # The list of models says that it is empty as soon as it is there, perhaps before the answer to the first call.
        emptied = MODELS in moved and not given[_CONTROLS.index(MODELS)]
        if url in moved or emptied or moved.isdisjoint(_CONTROLS):
            offered = sorted({*proposal.models_of(router.body), *shown.models, *known})
            return no_update, offered, *_values(shown)
        written = proposal.changes(shown, _given(given, shown, moved))
        if not written:
            raise PreventUpdate  # they agree, which ends the circle
        # Other controls may have moved since: they keep what they have.
        return search_with(search, written), no_update, *(no_update for _ in _CONTROLS)


def _values(shown: proposal.Shown) -> tuple[Any, ...]:
    """In the order of the controls."""
    return (*shown.weights, list(shown.models), shown.explore_percent, *shown.limits)


def _given(values: tuple[Any, ...], before: proposal.Shown, moved: set[str]) -> proposal.Shown:
    """What the controls say: each group of which one has moved as the browser has it, the others as before, since at
    first the browser has nothing but what the empty page was made with. Without any model there is no proposal."""
    now = dict(zip(_CONTROLS, values, strict=True))

    def numbers(controls: tuple[str, ...], was: tuple[float | None, ...]) -> tuple[float | None, ...]:
        if moved.isdisjoint(controls):
            return was
        return tuple(float(now[one]) if isinstance(now[one], int | float) else None for one in controls)

    models = now[MODELS] if MODELS in moved else None
    (explore,) = numbers((EXPLORE,), (before.explore_percent,))
    return proposal.Shown(
        weights=tuple(int(one or 0) for one in numbers(WEIGHTS, before.weights)),
        models=tuple(str(one) for one in models) if models else before.models,
        explore_percent=before.explore_percent if explore is None else explore,
        limits=numbers(LIMITS, before.limits),
    )
