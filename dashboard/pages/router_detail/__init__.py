"""The page of one router: settings, versions, their differences, the way back, and a prompt to try."""

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from dashboard.frame.elements import Element, dimmed, notice, page_link, panel, unavailable_notice
from dashboard.frame.page import Page, PageContext, actor_of
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.urls import ROUTER_PATH, ROUTERS_PATH, link
from dashboard.pages.router_detail.view import (
    NEEDS,
    changes_table,
    chat_body,
    compared,
    decision,
    facts,
    versions_table,
)
from dashboard.pages.routers import no_router_notice, read_chosen
from modelpilot.errors import DependencyUnavailable, ModelPilotError
from modelpilot.metrics.use import RouterUse, RouterVersion

FRAME = PageFrame("router", "Router", ranged=False, skeleton=(92, 320))
FACTS = FRAME.id("facts")
VERSIONS = FRAME.id("versions")
CHANGES = FRAME.id("changes")
RESTORE = FRAME.id("restore")
RESTORE_TEXT = FRAME.id("restore-text")
RESTORE_DIALOG = FRAME.id("restore-dialog")
RESTORE_CONFIRM = FRAME.id("restore-confirm")
RESTORE_CANCEL = FRAME.id("restore-cancel")
RESTORE_RESULT = FRAME.id("restore-result")
EXPLAIN_PROMPT = FRAME.id("explain-prompt")
EXPLAIN_NEEDS = FRAME.id("explain-needs")
EXPLAIN_ASK = FRAME.id("explain-ask")
EXPLAIN_RESULT = FRAME.id("explain-result")
_HIDDEN, _SHOWN = "none", "inline-block"


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(
        context,
        search,
        dmc.Stack(
            [
                panel("Settings", html.Div(id=FACTS)),
                panel("Versions", html.Div(id=VERSIONS)),
                panel("What changed", html.Div(id=CHANGES), *_restore_controls()),
                panel("Try a prompt", *_sandbox()),
            ]
        ),
        _dialog(),
    )


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    @FRAME.fills(
        app,
        context,
        Output(FACTS, "children"),
        Output(VERSIONS, "children"),
        Output(CHANGES, "children"),
        Output(RESTORE, "display"),
        Output(RESTORE, "children"),
        Output(RESTORE_TEXT, "children"),
    )
    def fill(asked: Asked) -> Filled:
        router = _router(context, asked)
        if router is None:
            return Filled((None, None, None, _HIDDEN, "", ""), _no_router(asked), hidden=True)
        versions = context.reader.router_versions(router.user_id, router.router_id)
        pair = compared(router, versions, asked)
        at_a_glance = (facts(router, asked, context.clock()), versions_table(router, versions, asked))
        return Filled((*at_a_glance, *_comparison(router, pair, may_change=_may_change(context))))

    _register_restore(app, context)
    _register_explain(app, context)


PAGE = Page(path=ROUTER_PATH, title="Router", layout=layout, register=register, under=ROUTERS_PATH)


def _restore_controls() -> list[Element]:
    button = dmc.Button("Roll back", id=RESTORE, variant="default", size="xs", mt="sm", display=_HIDDEN)
    return [button, html.Div(id=RESTORE_RESULT, role="status")]


def _dialog() -> Element:
    buttons = dmc.Group(
        [
            dmc.Button("Cancel", id=RESTORE_CANCEL, variant="default"),
            dmc.Button("Roll back", id=RESTORE_CONFIRM, color="red.8"),
        ],
        justify="flex-end",
        mt="md",
    )
    return dmc.Modal(
        [dmc.Text(id=RESTORE_TEXT, size="sm"), buttons],
        id=RESTORE_DIALOG,
        title="Roll back this router?",
        opened=False,
        transitionProps={"duration": 0},
        closeButtonProps={"aria-label": "Close"},
    )


def _sandbox() -> list[Element]:
    needs = dmc.CheckboxGroup(
        dmc.Group([dmc.Checkbox(label=label, value=value, size="sm") for value, label in NEEDS]),
        id=EXPLAIN_NEEDS,
        value=[],
    )
    return [
        dimmed(
            "The decision for a prompt, made as a gateway makes it. No provider is called, nothing is kept. It never "
            "explores, and does not know which circuit breakers are open in the gateways.",
            mb="xs",
        ),
        dmc.Textarea(
            id=EXPLAIN_PROMPT,
            label="Prompt",
            placeholder="What a user would say",
            autosize=True,
            minRows=3,
            maxRows=12,
        ),
        dmc.Group(
            [needs, dmc.Button("Explain", id=EXPLAIN_ASK, variant="default", size="xs")],
            mt="sm",
            justify="space-between",
        ),
        dcc.Loading(html.Div(id=EXPLAIN_RESULT, role="status"), delay_show=300),
    ]


def _router(context: PageContext, asked: Asked) -> RouterUse | None:
    """The router that the URL names, if the visitor may see it. Raises DependencyUnavailable."""
    return read_chosen(context, asked, "id") if asked.values.get("id") else None


def _no_router(asked: Asked) -> Element:
    if asked.values.get("id"):
        return no_router_notice(asked.values, "id")
    all_routers = page_link("list of routers", link(ROUTERS_PATH, asked.search))
    return notice("No router chosen", "Choose one in the ", all_routers, ".", color="blue")


def _may_change(context: PageContext) -> bool:
    return context.visitor.role == "admin"


def _comparison(
    router: RouterUse, pair: tuple[RouterVersion, RouterVersion] | None, *, may_change: bool
) -> tuple[Any, ...]:
    if pair is None:
        hint = "Compare two versions in the table above. An admin can then go back to the older one."
        return dimmed(hint), _HIDDEN, "", ""
    older, newer = pair
    offered = may_change and older.version != router.version and older.body != router.body
    said = (
        f"{router.router_id} of {router.user_id} gets the settings of version {older.version} again, as a new version "
        f"behind {router.version}. Every gateway uses it from its next request on."
    )
    return changes_table(older, newer), _SHOWN if offered else _HIDDEN, f"Roll back to version {older.version}", said


def _register_restore(app: Dash, context: PageContext) -> None:
    @app.callback(
        Output(RESTORE_DIALOG, "opened"),
        Input(RESTORE, "n_clicks"),
        Input(RESTORE_CANCEL, "n_clicks"),
        Input(RESTORE_CONFIRM, "n_clicks"),
        prevent_initial_call=True,
    )
    def ask(*_: int | None) -> bool:
        """Nothing is changed by one click."""
        return bool(ctx.triggered_id == RESTORE)

    @app.callback(
        Output(RESTORE_RESULT, "children"),
        Output(FRAME.id("refresh"), "n_clicks"),
        Input(RESTORE_CONFIRM, "n_clicks"),
        State(FRAME.id("url"), "search"),
        State(FRAME.id("refresh"), "n_clicks"),
        prevent_initial_call=True,
    )
    def restore(clicks: int | None, search: str, refreshed: int | None) -> tuple[Any, Any]:
        """The one thing of the site that changes what gateways do: for admins only, whatever a browser sends."""
        if not clicks:
            return no_update, no_update
        if not _may_change(context):
            return notice("Nothing was changed", "Only admins roll back a router.", color="yellow"), no_update
        try:
            return _restored(context, FRAME.asked(context, search)), (refreshed or 0) + 1
        except ModelPilotError as error:
            return notice("Nothing was changed", error.message, color="red"), no_update


def _restored(context: PageContext, asked: Asked) -> Element:
    router = _router(context, asked)
    if router is None:
        return _no_router(asked)
    pair = compared(router, context.reader.router_versions(router.user_id, router.router_id), asked)
    if pair is None:
        return notice("Nothing was changed", "Choose the version to go back to.", color="yellow")
    made = context.workbench.restore(router.user_id, router.router_id, pair[0].version, actor_of(context))
    said = f"Version {made} has the settings of version {pair[0].version}."
    return notice("Rolled back", said, color="green")


def _register_explain(app: Dash, context: PageContext) -> None:
    @app.callback(
        Output(EXPLAIN_RESULT, "children"),
        Input(EXPLAIN_ASK, "n_clicks"),
        State(EXPLAIN_PROMPT, "value"),
        State(EXPLAIN_NEEDS, "value"),
        State(FRAME.id("url"), "search"),
        prevent_initial_call=True,
    )
    def explain(clicks: int | None, prompt: str | None, needs: list[str] | None, search: str) -> Any:
        """The decision, or why there is none."""
        if not clicks:
            return no_update
        if not (prompt or "").strip():
            return notice("No prompt", "Write what a user would say.", color="blue")
        try:
            return _explained(context, FRAME.asked(context, search), chat_body(prompt or "", needs or []))
        except DependencyUnavailable as error:
            return unavailable_notice(error.message)
        except ModelPilotError as error:
            return notice("No decision", error.message, color="yellow")


def _explained(context: PageContext, asked: Asked, body: dict[str, Any]) -> Element:
    router = _router(context, asked)
    if router is None:
        return _no_router(asked)
    found = context.workbench.explain(router.user_id, router.router_id, body)
    return decision(found, asked.search, router.user_id)
