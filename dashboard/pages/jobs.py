"""The Jobs page: aggregation, export, refits and re-scoring. What is on it comes from `jobs_view`."""

import dash_mantine_components as dmc
from dash import Dash, Output, html

from dashboard import ids
from dashboard.components import panel
from dashboard.elements import Element
from dashboard.frame import Asked, Filled, Frame
from dashboard.page import Page, PageContext
from dashboard.pages.jobs_view import cards, hours_table, late_notice, runs, runs_csv, runs_table, schedules_table
from dashboard.tables import Table, csv_button, register_csv

FRAME = Frame("jobs", "Jobs", ranged=False, skeleton=(92, 200, 320))
_LIMIT = 50


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(
        context,
        search,
        dmc.Stack(
            [
                html.Div(id=ids.JOBS_CARDS),
                panel("Schedules", html.Div(id=ids.JOBS_SCHEDULES)),
                panel("Refits and re-scoring", csv_button(FRAME), html.Div(id=ids.JOBS_RUNS)),
                html.Div(id=ids.JOBS_HOURS),
            ]
        ),
    )


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    def table(asked: Asked) -> Table:
        return runs_csv(runs(context.readers.jobs.jobs(asked.scope.user_id, _LIMIT)), asked.zone)

    register_csv(app, context, FRAME, "modelpilot-jobs.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(ids.JOBS_CARDS, "children"),
        Output(ids.JOBS_SCHEDULES, "children"),
        Output(ids.JOBS_RUNS, "children"),
        Output(ids.JOBS_HOURS, "children"),
    )
    def fill(asked: Asked) -> Filled:
        found, now_s = context.readers.jobs.jobs(asked.scope.user_id, _LIMIT), context.clock()
        listed, everybody = runs(found), asked.scope.user_id is None
        none_yet = dmc.Text(
            "None yet. A refit needs graded answers; re-scoring runs every night.", size="sm", c="dimmed"
        )
        values = (
            cards(found, now_s),
            schedules_table(found, context.config, asked.zone, now_s),
            runs_table(listed, context.config, asked.zone, with_owner=everybody) if listed else none_yet,
            panel("Hours computed", hours_table(found.hours, asked.zone)) if found.hours else None,
        )
        return Filled(values, late_notice(found, now_s))


PAGE = Page(path="/jobs", title="Jobs", layout=layout, register=register)
