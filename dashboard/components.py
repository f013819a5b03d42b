"""Building blocks shared by the pages: stat cards, notices, panels and the table of requests."""

from collections.abc import Sequence

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard.config import DashboardConfig
from dashboard.elements import Element, aria
from dashboard.figures import CHART_HEIGHT_PX
from dashboard.formats import format_ms, format_time, format_usd
from dashboard.links import workflow_url
from modelpilot.analytics import NO_MODEL, RecentRequest

STATUS_COLORS = {"completed": "green", "failed": "red", "canceled": "gray"}
# The coloured title that Mantine gives has too little contrast on the coloured ground.
NOTICE_STYLES = {"title": {"color": "var(--mantine-color-text)"}}
REQUEST_COLUMNS = ("Time (UTC)", "Router", "Model", "Latency", "Cost", "Status", "Workflow")


def stat_card(label: str, value: str, hint: str) -> Element:
    """One figure: what it is, its value, and what to know about it. A <dl> keeps label and value together."""
    return dmc.Card(
        html.Dl(
            [html.Dt(label, className="mp-stat-label"), html.Dd(value, className="mp-stat-value"), html.Dd(hint)],
            className="mp-stat",
        ),
        withBorder=True,
        padding="sm",
    )


def panel(title: str, *children: Element) -> Element:
    """A titled section of a page."""
    return dmc.Card(
        html.Section([dmc.Title(title, order=2, size="h5", mb="xs"), *children]), withBorder=True, padding="md"
    )


def chart_panel(title: str, graph_id: str) -> Element:
    """A titled chart. Screen readers get its title; the numbers behind it stand in the cards and tables."""
    graph = dcc.Graph(
        id=graph_id,
        config={"displayModeBar": False, "scrollZoom": False},
        responsive=True,
        style={"height": CHART_HEIGHT_PX},
    )
    return panel(title, html.Div(graph, role="img", **aria(label=f"Chart: {title}")))


def notice(title: str, *children: object, color: str) -> Element:
    """A message that takes the place of data, or stands above it; says what to do."""
    return dmc.Alert(list(children), title=title, color=color, variant="light", mb="md", styles=NOTICE_STYLES)


def command(line: str) -> Element:
    """A shell command inside a sentence."""
    return dmc.Code(line)


def requests_table(rows: Sequence[RecentRequest], config: DashboardConfig) -> Element:
    """The newest requests. On a narrow screen each row becomes a small list, for which cells carry their label."""
    head = dmc.TableThead(dmc.TableTr([dmc.TableTh(column) for column in REQUEST_COLUMNS]))
    body = dmc.TableTbody([_request_row(row, config) for row in rows])
    return dmc.Table([head, body], striped=True, highlightOnHover=True, className="mp-requests")


def _request_row(row: RecentRequest, config: DashboardConfig) -> Element:
    cells: tuple[object, ...] = (
        format_time(row.created_at),
        row.router_id or "direct",
        row.model or NO_MODEL,
        format_ms(row.latency_ms),
        format_usd(row.cost_usd),
        _status(row),
        _workflow_link(row, config),
    )
    labelled = zip(REQUEST_COLUMNS, cells, strict=True)
    return dmc.TableTr([dmc.TableTd(cell, **{"data-label": label}) for label, cell in labelled])


def _status(row: RecentRequest) -> Element:
    text = f"{row.status}: {row.error_code}" if row.error_code else row.status
    badges = [_badge(text, STATUS_COLORS.get(row.status, "gray"))]
    if row.fallback_used:
        badges.append(_badge("fallback", "yellow"))
    return dmc.Group(badges, gap=4)


def _badge(text: str, color: str) -> Element:
    return dmc.Badge(text, color=color, variant="dot", size="sm", tt="none")


def _workflow_link(row: RecentRequest, config: DashboardConfig) -> Element | str:
    url = workflow_url(config, row.workflow_id)
    if url is None:
        return row.request_id
    label = f"Open the workflow of request {row.request_id} in the Temporal Web UI"
    # A plain link: Mantine's Anchor decodes its href, and the slashes of the workflow id would split the path.
    return html.A(row.request_id, href=url, target="_blank", rel="noreferrer", className="mp-link", **aria(label=label))
