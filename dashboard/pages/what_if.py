"""The What-if page: logged decisions under other settings, before anybody changes them.

What is on it comes from `what_if_view`, and what it proposes from the URL (`what_if_url`).
"""

from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from dashboard import ids
from dashboard.frame.components import chart_panel, panel
from dashboard.frame.elements import Element, command, nothing_here_notice, notice
from dashboard.frame.filters import ROUTER
from dashboard.frame.frame import Asked, Filled, Frame
from dashboard.frame.page import Page, PageContext
from dashboard.frame.router_choice import DETAIL_PATH, WHAT_IF_PATH, no_router_notice, read_chosen, router_link
from dashboard.frame.tables import Table, behind_chart, csv_button, register_csv
from dashboard.frame.urls import link, search_with
from dashboard.pages import what_if_view as in_url
from dashboard.pages import what_if_view as view
from dashboard.pages.routers import weights_text
from modelpilot.errors import DependencyUnavailable, ModelPilotError
from modelpilot.metrics.ports import MOST_DECISIONS
from modelpilot.metrics.use import RouterUse

FRAME = Frame("what-if", "What-if", filters=(ROUTER,), skeleton=(160, 92, 320))
_LIMITS = (("Highest cost (USD)", 0.001), ("Highest latency (ms)", 100), ("Lowest quality (0 to 1)", 0.05))
_INLINE = "mp-link mp-inline"
_CONTROLS = (*ids.WHAT_IF_WEIGHTS, ids.WHAT_IF_MODELS, ids.WHAT_IF_EXPLORE, *ids.WHAT_IF_LIMITS)


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    results = [
        html.Div(id=ids.WHAT_IF_CARDS),
        html.Div(id=ids.WHAT_IF_EVIDENCE),
        panel(
            "By prediction",
            dmc.Text("What the models were expected to do with these requests.", size="sm", c="dimmed", mb="xs"),
            csv_button(FRAME),
            html.Div(id=ids.WHAT_IF_PREDICTED),
        ),
        chart_panel("Share per model", ids.WHAT_IF_CHART, ids.WHAT_IF_CHART_TABLE),
        panel(
            "By outcome",
            dmc.Text(
                "What was measured, carried over to the proposal. The expected value starts from the predictions and "
                "corrects them by measured outcomes. The cross-check has outcomes only, weighted by how likely the "
                "proposal makes the choice that was made.",
                size="sm",
                c="dimmed",
                mb="xs",
            ),
            html.Div(id=ids.WHAT_IF_OUTCOME),
        ),
        panel("Make it so", *_file()),
    ]
    return FRAME.layout(context, search, dmc.Stack([_controls(), *results]))


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
        for part, slider in zip(in_url.PARTS, ids.WHAT_IF_WEIGHTS, strict=True)
    ]
    limits = [
        dmc.NumberInput(id=one, label=label, min=0, step=step, placeholder="No limit", size="xs", debounce=500)
        for one, (label, step) in zip(ids.WHAT_IF_LIMITS, _LIMITS, strict=True)
    ]
    explore = dmc.NumberInput(
        id=ids.WHAT_IF_EXPLORE, label="Exploration (%)", min=0, max=100, step=1, size="xs", debounce=500
    )
    models = dmc.MultiSelect(
        id=ids.WHAT_IF_MODELS, label="Models", searchable=True, size="xs", mb="sm", debounce=500, hidePickedOptions=True
    )
    return panel(
        "Proposed settings",
        html.Div(id=ids.WHAT_IF_ABOUT),
        dmc.SimpleGrid(sliders, cols={"base": 1, "xs": 2, "md": 4}, spacing="lg", verticalSpacing="xs"),
        models,
        dmc.SimpleGrid([*limits, explore], cols={"base": 2, "md": 4}, spacing="sm"),
    )


def _file() -> list[Element]:
    copy = dmc.Button("Copy", id=ids.WHAT_IF_COPY, variant="default", size="xs")
    said = html.Span(id=ids.WHAT_IF_COPIED, role="status")
    hint = dmc.Text(
        ["Save it as router.json and run ", command("modelpilot routers apply -f router.json"), "."],
        size="sm",
        mb="xs",
    )
    body = html.Pre(id=ids.WHAT_IF_FILE, className="mp-code", tabIndex="0")
    whole = html.Details([html.Summary("The whole router as JSON", className="mp-summary"), body])
    return [hint, dmc.Group([copy, said], gap="sm", mb="xs"), whole]


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)
    _register_controls(app, context)
    _register_copy(app)

    def table(asked: Asked) -> Table:
        router = read_chosen(context, asked)
        return view.csv_rows(_replayed(context, asked, router)) if router else ((), ())

    register_csv(app, context, FRAME, "modelpilot-what-if.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(ids.WHAT_IF_ABOUT, "children"),
        Output(ids.WHAT_IF_CARDS, "children"),
        Output(ids.WHAT_IF_EVIDENCE, "children"),
        Output(ids.WHAT_IF_PREDICTED, "children"),
        Output(ids.WHAT_IF_CHART, "figure"),
        Output(ids.WHAT_IF_CHART, "style"),
        Output(ids.WHAT_IF_CHART_TABLE, "children"),
        Output(ids.WHAT_IF_OUTCOME, "children"),
        Output(ids.WHAT_IF_FILE, "children"),
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


def _register_copy(app: Dash) -> None:
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("modelpilotCopy", "copy"),
        Output(ids.WHAT_IF_COPIED, "children"),
        Input(ids.WHAT_IF_COPY, "n_clicks"),
        State(ids.WHAT_IF_FILE, "children"),
        prevent_initial_call=True,
    )


def _replayed(context: PageContext, asked: Asked, router: RouterUse) -> dict[str, Any]:
    body = in_url.replay_body(asked, router.body)
    return context.workbench.replay(router.user_id, router.router_id, {**body, "limit": MOST_DECISIONS})


def _results(router: RouterUse, found: dict[str, Any], asked: Asked) -> tuple[Any, ...]:
    figure = view.shares_figure(found)
    columns, rows = view.shares_rows(found)
    return (
        _about(router, asked),
        view.cards(found, MOST_DECISIONS),
        view.evidence_notice(found),
        view.predicted_table(found),
        figure,
        {"height": figure.layout.height},
        behind_chart(columns, rows, numeric=(1, 2, 3)),
        view.outcome_table(found),
        view.router_text(in_url.proposed_router(asked.values, router.body)),
    )


def _about(router: RouterUse, asked: Asked) -> Element:
    """Which router, what it is set to, and the way back to that."""
    owner = f" of {router.user_id}" if asked.scope.user_id is None else ""
    name = dcc.Link(router.router_id, href=router_link(DETAIL_PATH, asked.search, router), className=_INLINE)
    today = f"{owner}, today {weights_text(router.body)}. "
    changed = any(asked.values.get(one) for one in in_url.NAMES)
    back = dcc.Link("Back to today's settings", href=_without_proposal(asked), className=_INLINE) if changed else ""
    return dmc.Text(["Router ", name, today, back], size="sm", mb="sm")


def _without_proposal(asked: Asked) -> str:
    return link(WHAT_IF_PATH, asked.search, router=asked.values.get("router"), owner=asked.values.get("owner"))


def _register_controls(app: Dash, context: PageContext) -> None:
    url = FRAME.id("url")

    @app.callback(
        Output(url, "search", allow_duplicate=True),
        Output(ids.WHAT_IF_MODELS, "data"),
        *(Output(control, "value") for control in _CONTROLS),
        Input(url, "search"),
        *(Input(control, "value") for control in _CONTROLS),
        prevent_initial_call="initial_duplicate",
    )
    def sync(search: str, *given: Any) -> tuple[Any, ...]:
        """The controls write the URL; the URL sets the controls, where it says nothing as the router has it."""
        asked = FRAME.asked(context, search)
        try:
            router = read_chosen(context, asked)
            known = context.reader.choices(asked.scope.user_id).models if router else ()
        except DependencyUnavailable:
            raise PreventUpdate from None
        if router is None:
            raise PreventUpdate
        shown = in_url.shown(asked.values, router.body)
        moved = {one["prop_id"].split(".")[0] for one in ctx.triggered}
        # The list of models says that it is empty as soon as it is there, perhaps before the answer to the first call.
        emptied = ids.WHAT_IF_MODELS in moved and not given[_CONTROLS.index(ids.WHAT_IF_MODELS)]
        if url in moved or emptied or moved.isdisjoint(_CONTROLS):
            offered = sorted({*in_url.models_of(router.body), *shown.models, *known})
            return no_update, offered, *_values(shown)
        written = in_url.changes(shown, _given(given, shown, moved))
        if not written:
            raise PreventUpdate  # they agree, which ends the circle
        # Other controls may have moved since: they keep what they have.
        return search_with(search, written), no_update, *(no_update for _ in _CONTROLS)


def _values(shown: in_url.Shown) -> tuple[Any, ...]:
    """In the order of the controls."""
    return (*shown.weights, list(shown.models), shown.explore_percent, *shown.limits)


def _given(values: tuple[Any, ...], before: in_url.Shown, moved: set[str]) -> in_url.Shown:
    """What the controls say: each group of which one has moved as the browser has it, the others as before, since at
    first the browser has nothing but what the empty page was made with. Without any model there is no proposal."""
    now = dict(zip(_CONTROLS, values, strict=True))

    def numbers(controls: tuple[str, ...], was: tuple[float | None, ...]) -> tuple[float | None, ...]:
        if moved.isdisjoint(controls):
            return was
        return tuple(float(now[one]) if isinstance(now[one], int | float) else None for one in controls)

    models = now[ids.WHAT_IF_MODELS] if ids.WHAT_IF_MODELS in moved else None
    (explore,) = numbers((ids.WHAT_IF_EXPLORE,), (before.explore_percent,))
    return in_url.Shown(
        weights=tuple(int(one or 0) for one in numbers(ids.WHAT_IF_WEIGHTS, before.weights)),
        models=tuple(str(one) for one in models) if models else before.models,
        explore_percent=before.explore_percent if explore is None else explore,
        limits=numbers(ids.WHAT_IF_LIMITS, before.limits),
    )


PAGE = Page(path=WHAT_IF_PATH, title="What-if", layout=layout, register=register)
