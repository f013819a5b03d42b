"""The Overview page: what the platform did in a range, at a glance. Callbacks are in `overview_callbacks`."""

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard import ids
from dashboard.components import chart_panel, panel
from dashboard.elements import Element, aria
from dashboard.pages.overview_callbacks import register
from dashboard.pages.overview_view import CONTENT_HIDDEN
from dashboard.pages.page import Page, PageContext
from dashboard.ranges import RANGES, range_from_url

CARD_COUNT = 8


def layout(context: PageContext, search: str) -> Element:
    """The empty page: controls, placeholders while the first answer is awaited, and the parts to be filled."""
    return html.Div(
        [
            # Its own Location, so that the page's callbacks run only while the page is there.
            dcc.Location(id=ids.OVERVIEW_URL, refresh="callback-nav"),
            _controls(search),
            html.Div(id=ids.NOTICE, role="status", **aria(live="polite")),
            html.Div(_placeholders(), id=ids.OVERVIEW_LOADING),
            html.Div(_parts(), id=ids.OVERVIEW_CONTENT, className=CONTENT_HIDDEN),
            dcc.Interval(id=ids.OVERVIEW_TIMER, interval=context.config.refresh_s * 1_000),
        ]
    )


def _controls(search: str) -> Element:
    ranges = dmc.SegmentedControl(
        id=ids.OVERVIEW_RANGE,
        value=range_from_url(search).key,
        data=[{"value": one.key, "label": one.label} for one in RANGES],
        size="sm",
        **aria(label="Time range"),
    )
    refresh = dmc.Group(
        [
            dmc.Switch(id=ids.OVERVIEW_AUTO_REFRESH, label="Auto-refresh", checked=True, persistence=True, size="sm"),
            dmc.Button("Refresh", id=ids.OVERVIEW_REFRESH, variant="default", size="xs"),
        ],
        gap="sm",
    )
    title = dmc.Title("Overview", order=1, size="h3")
    return dmc.Group([title, dmc.Group([ranges, refresh], gap="md")], justify="space-between", mb="md")


def _placeholders() -> Element:
    cards = [dmc.Skeleton(h=92) for _ in range(CARD_COUNT)]
    charts = dmc.SimpleGrid([dmc.Skeleton(h=320), dmc.Skeleton(h=320)], cols={"base": 1, "md": 2}, mt="md")
    return html.Div([_card_grid(cards), charts], **aria(label="Loading"))


def _parts() -> list[Element]:
    charts = dmc.SimpleGrid(
        [
            chart_panel("Requests over time", ids.OVERVIEW_TIME_CHART),
            chart_panel("Requests per model", ids.OVERVIEW_MODEL_CHART),
        ],
        cols={"base": 1, "md": 2},
        my="md",
    )
    return [
        dmc.Text(id=ids.OVERVIEW_AS_OF, size="sm", c="dimmed", mb="xs"),
        html.Div(id=ids.OVERVIEW_CARDS),
        charts,
        panel("Most recent requests", html.Div(id=ids.OVERVIEW_RECENT)),
    ]


def _card_grid(cards: list[Element]) -> Element:
    return dmc.SimpleGrid(cards, cols={"base": 2, "sm": 4}, spacing="sm")


PAGE = Page(path="/", title="Overview", layout=layout, register=register)
