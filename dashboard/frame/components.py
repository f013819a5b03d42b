"""Building blocks shared by the pages: stat cards, panels, charts and the table of requests."""

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.config import DashboardConfig
from dashboard.frame.elements import Element, aria
from dashboard.frame.figures import CHART_HEIGHT_PX
from dashboard.frame.formats import format_ms, format_usd
from dashboard.frame.links import detail_link, workflow_url
from dashboard.frame.tables import labelled_table
from dashboard.frame.zones import UTC_ZONE, Zone
from modelpilot.metrics.overview import NO_MODEL
from modelpilot.metrics.requests import LoggedRequest

STATUS_COLORS = {"completed": "green", "failed": "red", "canceled": "gray"}
REQUEST_COLUMNS = ("Time", "Router", "Model", "Latency", "Cost", "Status", "Workflow")
CARD_COLUMNS = {"base": 2, "sm": 3, "lg": 4}


def stat_card(label: str, value: str, hint: str, href: str | None = None) -> Element:
    """One figure: what it is, its value, and what to know about it. `href` leads to the rows behind it."""
    name = dcc.Link(label, href=href, className="mp-link") if href else label
    return dmc.Card(
        # A <dl> keeps label and value together.
        html.Dl(
            [html.Dt(name, className="mp-stat-label"), html.Dd(value, className="mp-stat-value"), html.Dd(hint)],
            className="mp-stat",
        ),
        withBorder=True,
        padding="sm",
    )


def stat_grid(cards: Sequence[Element]) -> Element:
    """Cards side by side, as many as fit."""
    return dmc.SimpleGrid(list(cards), cols=CARD_COLUMNS, spacing="sm")


def panel(title: str, *children: Element) -> Element:
    """A titled section of a page."""
    return dmc.Card(
        html.Section([dmc.Title(title, order=2, size="h5", mb="xs"), *children]), withBorder=True, padding="md"
    )


def chart_panel(title: str, graph_id: str, table_id: str | None = None) -> Element:
    """A titled chart. `table_id` is a place below for its numbers (`tables.behind_chart`): a picture has no text."""
    graph = dcc.Graph(
        id=graph_id,
        config={"displayModeBar": False, "scrollZoom": False},
        responsive=True,
        style={"height": CHART_HEIGHT_PX},
    )
    below = [html.Div(id=table_id)] if table_id else []
    return panel(title, html.Div(graph, role="img", **aria(label=f"Chart: {title}")), *below)


def requests_table(
    rows: Sequence[LoggedRequest], config: DashboardConfig, zone: Zone = UTC_ZONE, search: str = ""
) -> Element:
    """The newest requests, each linked to its page."""
    if not rows:
        return dmc.Text("None in this range.", size="sm", c="dimmed")
    return labelled_table(REQUEST_COLUMNS, [_request_row(row, config, zone, search) for row in rows], numeric=(3, 4))


def status_badges(status: str, error_code: str | None, fallback_used: bool) -> Element:
    """How a request ended, in words and a coloured dot."""
    badges = [_badge(f"{status}: {error_code}" if error_code else status, STATUS_COLORS.get(status, "gray"))]
    if fallback_used:
        badges.append(_badge("fallback", "yellow"))
    return dmc.Group(badges, gap=4)


def workflow_link(config: DashboardConfig, workflow_id: str, request_id: str) -> Element | str:
    """The request's id, linked to its workflow in the Temporal Web UI where there is one."""
    url = workflow_url(config, workflow_id)
    if url is None:
        return request_id
    label = f"Open the workflow of request {request_id} in the Temporal Web UI"
    # A plain link: Mantine's Anchor decodes its href, and the slashes of the workflow id would split the path.
    return html.A(request_id, href=url, target="_blank", rel="noreferrer", className="mp-link", **aria(label=label))


def _request_row(row: LoggedRequest, config: DashboardConfig, zone: Zone, search: str) -> tuple[object, ...]:
    to_its_page = detail_link(search, row.request_id, row.user_id)
    return (
        dcc.Link(zone.time(row.created_at), href=to_its_page, className="mp-link"),
        row.router_id or "direct",
        row.model or NO_MODEL,
        format_ms(row.latency_ms),
        format_usd(row.cost_usd),
        status_badges(row.status, row.error_code, row.fallback_used),
        workflow_link(config, row.workflow_id, row.request_id),
    )


def _badge(text: str, color: str) -> Element:
    return dmc.Badge(text, color=color, variant="dot", size="sm", tt="none")
