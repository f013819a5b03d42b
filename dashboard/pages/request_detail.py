"""The page of one request. What is on it comes from `request_detail_view`."""

from collections.abc import Sequence

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Output, dcc, html

from dashboard import ids
from dashboard.config import DashboardConfig
from dashboard.frame.components import panel, stat_card, stat_grid, status_badges
from dashboard.frame.elements import Element, aria, notice
from dashboard.frame.figures import COLORS, bar_marker, dressed, hatched, legend_below
from dashboard.frame.filters import shown_name
from dashboard.frame.formats import UNKNOWN, format_grams, format_ms, format_tokens, format_usd
from dashboard.frame.frame import Asked, Filled, Frame
from dashboard.frame.links import REQUEST_PATH, REQUESTS_PATH, detail_link, requests_link, workflow_url
from dashboard.frame.page import Page, PageContext
from dashboard.frame.tables import labelled_table
from dashboard.frame.zones import Zone
from modelpilot.metrics.requests import LoggedAttempt, RequestDetail
from modelpilot.routing.decision import (
    COMPONENTS,
    Part,
    ScoredModel,
    SimilarPrompt,
    predictor_of,
    scored_models,
    similar_prompts,
)

# Pure functions of the page of one request: its decision and its attempts → charts.

ROW_PX, FRAME_PX, LEAST_ROWS = 44, 104, 2
WAITING, WRITING, NO_ANSWER = "To the first token", "Writing the answer", "Failed or canceled"


def score_bars(models: Sequence[ScoredModel], chosen: str) -> go.Figure:
    """Per candidate the weighted components, stacked: the whole bar is the total. The best on top."""
    scored = [one for one in models if one.total is not None]
    labels = [_label(one, chosen) for one in scored]
    traces = []
    for index, name in enumerate(COMPONENTS):
        parts = [next((part for part in one.parts if part.name == name), None) for one in scored]
        if not any(part and part.weight for part in parts):
            continue  # a component without weight would only fill the legend
        texts = [f"{part.score:.3f} × {part.weight:.2f} = {part.weighted:.3f}" if part else UNKNOWN for part in parts]
        traces.append(
            go.Bar(
                name=name.capitalize(),
                x=[part.weighted if part else 0.0 for part in parts],
                y=list(range(len(scored))),
                orientation="h",
                width=0.36,
                marker=bar_marker(index),
                customdata=list(zip(labels, texts, strict=True)),
                hovertemplate="%{customdata[0]}<br>%{fullData.name} %{customdata[1]}<extra></extra>",
            )
        )
    made = _rows(traces, labels)
    return made.update_xaxes(
        title={"text": "score × weight, stacked to the total"}, tickformat=".2f", rangemode="tozero"
    )


def waterfall(attempts: Sequence[LoggedAttempt], began_s: float) -> go.Figure:
    """Every provider call from its start to its end, on one axis of time since the request began."""
    offsets = [max(0.0, (one.started_at - began_s) * 1_000.0) for one in attempts]
    labels = [
        f"{one.seq + 1}. {one.deployment or one.model}: {ended(one)}, {format_ms(one.latency_ms)}" for one in attempts
    ]
    ok = [one.status == "ok" for one in attempts]
    first = [min(one.ttft_ms or 0.0, one.latency_ms) if good else 0.0 for one, good in zip(attempts, ok, strict=True)]
    rest = [one.latency_ms - wait if good else 0.0 for one, wait, good in zip(attempts, first, ok, strict=True)]
    lost = [0.0 if good else one.latency_ms for one, good in zip(attempts, ok, strict=True)]
    series = [
        (WAITING, first, offsets, hatched(COLORS[0], "/")),
        (WRITING, rest, [at + wait for at, wait in zip(offsets, first, strict=True)], hatched(COLORS[0], "")),
        (NO_ANSWER, lost, offsets, hatched("#fa5252", "x")),
    ]
    traces = [
        go.Bar(
            name=name,
            x=widths,
            base=bases,
            y=list(range(len(attempts))),
            orientation="h",
            width=0.36,
            marker=marker,
            customdata=[format_ms(width) for width in widths],
            hovertemplate="%{fullData.name}: %{customdata}<extra></extra>",
        )
        for name, widths, bases, marker in series
        if any(widths)
    ]
    made = _rows(traces, labels)
    made.update_layout(barmode="overlay")
    return made.update_xaxes(
        title={"text": "milliseconds since the request began"}, tickformat=",.0f", rangemode="tozero"
    )


def ended(attempt: LoggedAttempt) -> str:
    """How a call ended, in words."""
    if attempt.status == "ok":
        return "ok"
    status = f" {attempt.http_status}" if attempt.http_status else ""
    return f"{attempt.error_type or attempt.status}{status}"


def height_px(rows: int) -> int:
    """How tall a chart of so many rows is."""
    return max(rows, LEAST_ROWS) * ROW_PX + FRAME_PX


def _label(one: ScoredModel, chosen: str) -> str:
    total = 0.0 if one.total is None else one.total
    return f"{one.model} · {total:.3f}{' · chosen' if one.model == chosen else ''}"


def _rows(traces: list[go.Bar], labels: Sequence[str]) -> go.Figure:
    """Bars with their names above: beside them they would take half of a narrow screen."""
    made = dressed(go.Figure(traces))
    for position, label in enumerate(labels):
        made.add_annotation(x=0, xref="paper", y=position - 0.36, text=label, showarrow=False, xanchor="left")
    made.update_yaxes(range=[max(len(labels), LEAST_ROWS) - 0.6, -0.7], visible=False)
    return legend_below(made, rows=2).update_layout(height=height_px(len(labels)), showlegend=len(traces) > 1)


# Pure functions of the page of one request: what is known of it → the parts of the page.

HOW_TO_READ = "Prediction → score (0 to 1, more is better) × weight = share of the total"


def parts(detail: RequestDetail, config: DashboardConfig, zone: Zone, search: str) -> list[Element]:
    """The whole page below its title."""
    return [
        _heading(detail, config, search),
        _cards(detail),
        dmc.Stack(
            [
                _decision(detail),
                _neighbours(detail, search),
                _attempts(detail, zone),
                _opinions(detail, zone),
                _facts(detail, zone, search),
            ],
            mt="md",
        ),
    ]


def _heading(detail: RequestDetail, config: DashboardConfig, search: str) -> Element:
    request = detail.request
    back = dcc.Link("All requests", href=requests_link(search), className="mp-link")
    url = workflow_url(config, detail.request.workflow_id)
    links: list[Element] = [back]
    if url is not None:
        links.append(html.A("Workflow in Temporal", href=url, target="_blank", rel="noreferrer", className="mp-link"))
    name = dmc.Code(request.request_id)
    badges = status_badges(request.status, request.error_code, request.fallback_used)
    return dmc.Group([name, badges, *links], gap="md", mb="md", fz="sm")


def _cards(detail: RequestDetail) -> Element:
    request = detail.request
    tokens = f"{format_tokens(request.input_tokens)} / {format_tokens(request.output_tokens)}"
    further = f"{format_tokens(detail.cached_tokens)} cached, {format_tokens(detail.reasoning_tokens)} reasoning"
    quality = UNKNOWN if request.quality is None else f"{request.quality:.3f}"
    unpriced = request.cost_usd is None
    source = f"from {detail.quality_source}" if detail.quality_source else "nobody has judged it yet"
    return stat_grid(
        [
            stat_card("Latency", format_ms(request.latency_ms), "time at the providers"),
            stat_card("First token", format_ms(request.ttft_ms), "of the answering call"),
            stat_card("Overhead", format_ms(request.overhead_ms), "everything but the providers"),
            stat_card("Cost", format_usd(request.cost_usd), "no price is known" if unpriced else "of all calls"),
            stat_card("Tokens in / out", tokens, further),
            stat_card("Quality", quality, source),
            stat_card("Carbon", format_grams(detail.carbon_g), "CO\u2082e, an estimate"),
            stat_card("Attempts", str(request.attempts), "provider calls"),
        ]
    )


def _decision(detail: RequestDetail) -> Element:
    models, chosen = scored_models(detail.decision), str(detail.decision.get("selectedModel") or "")
    if not models:
        return panel("Decision", dmc.Text("No models were compared for this request.", size="sm", c="dimmed"))
    scored = [one for one in models if one.total is not None]
    said = [dmc.Text(_how(detail, len(scored), len(models)), size="sm", c="dimmed", mb="xs")]
    if scored:
        said.append(chart("Chart: score of each candidate", score_bars(models, chosen)))
    columns = ("Model", "Quality", "Cost", "Latency", "Carbon", "Total", "Evidence", "Why not")
    # The reasons of exclusion are a column where there are any.
    shown = len(columns) - (len(scored) == len(models))
    rows = [_candidate(one, chosen)[:shown] for one in models]
    said.append(dmc.Text(HOW_TO_READ, size="xs", c="dimmed", my="xs"))
    return panel("Decision", *said, labelled_table(columns[:shown], rows, numeric=(5, 6)))


def _how(detail: RequestDetail, scored: int, candidates: int) -> str:
    explored = "an exploration" if detail.explored else "by the highest total, no exploration"
    predictor = predictor_of(detail.decision)
    fitted = f"predictor version {predictor[0]}" if predictor else "no fitted predictor yet"
    return (
        f"{scored} of {candidates} models could be chosen. The choice: {explored}, made with probability "
        f"{detail.propensity:.3g}; {fitted}."
    )


def _candidate(one: ScoredModel, chosen: str) -> Sequence[object]:
    of = {part.name: part for part in one.parts}
    figures = [part_cell(of.get(name), scored=one.total is not None) for name in COMPONENTS]
    total = UNKNOWN if one.total is None else f"{one.total:.3f}"
    name = f"{one.model} (chosen)" if one.model == chosen else one.model
    return name, *figures, total, f"{one.evidence:,}", one.excluded_because or ""


def part_cell(part: Part | None, *, scored: bool) -> Element | str:
    """A prediction in its unit, and below what became of it; without that where the model was excluded."""
    if part is None:
        return UNKNOWN
    if not scored:
        return _raw(part)
    weighted = f"→ {part.score:.3f} × {part.weight:.2f} = {part.weighted:.3f}"
    return html.Div([html.Div(_raw(part)), dmc.Text(weighted, size="xs", c="dimmed")])


def _raw(part: Part) -> str:
    if part.raw is None:
        return "unknown"
    if part.unit == "USD":
        return format_usd(part.raw)
    if part.unit == "ms":
        return format_ms(part.raw)
    return format_grams(part.raw) if part.name == "carbon" else f"{part.raw:.3f}"


def _neighbours(detail: RequestDetail, search: str) -> Element:
    found = similar_prompts(detail.decision)
    if not found:
        return panel("Similar past prompts", dmc.Text("None took part in this decision.", size="sm", c="dimmed"))
    return panel("Similar past prompts", neighbours_table(found, search, detail.request.user_id))


def neighbours_table(found: Sequence[SimilarPrompt], search: str, owner: str) -> Element:
    """The past requests that a decision leaned on, each linked to its page."""
    rows = [
        (
            dcc.Link(one.request_id, href=detail_link(search, one.request_id, owner), className="mp-link"),
            one.model,
            UNKNOWN if one.similarity is None else f"{one.similarity:.3f}",
            UNKNOWN if one.quality is None else f"{one.quality:.3f}",
        )
        for one in found
    ]
    return labelled_table(("Request", "Model", "Similarity", "Quality"), rows, numeric=(2, 3))


def _attempts(detail: RequestDetail, zone: Zone) -> Element:
    if not detail.attempts:
        return panel("Attempts", dmc.Text("No provider was called.", size="sm", c="dimmed"))
    columns = ("#", "Model", "Deployment", "Started", "Ended as", "Latency", "First token", "Tokens in / out", "Cost")
    rows = [
        (
            str(one.seq + 1),
            one.model,
            one.deployment or one.provider,
            zone.time(one.started_at),
            ended(one),
            format_ms(one.latency_ms),
            format_ms(one.ttft_ms),
            f"{format_tokens(one.input_tokens)} / {format_tokens(one.output_tokens)}",
            format_usd(one.cost_usd),
        )
        for one in detail.attempts
    ]
    figure = waterfall(detail.attempts, detail.request.created_at)
    drawn = chart("Chart: provider calls over time", figure)
    return panel("Attempts", drawn, labelled_table(columns, rows, numeric=(5, 6, 7, 8)))


def _opinions(detail: RequestDetail, zone: Zone) -> Element:
    if not detail.opinions:
        hint = "No feedback and no verdict yet: POST /v1/feedback, or run the re-scoring job."
        return panel("Feedback", dmc.Text(hint, size="sm", c="dimmed"))
    rows = [
        (zone.time(one.at), one.source, UNKNOWN if one.score is None else f"{one.score:.2f}", one.status)
        for one in detail.opinions
    ]
    return panel("Feedback", labelled_table(("Time", "From", "Score (0 to 1)", "State"), rows, numeric=(2,)))


def _facts(detail: RequestDetail, zone: Zone, search: str) -> Element:
    request = detail.request
    told = [
        ("Began", f"{zone.time(request.created_at)} {zone.abbreviation(request.created_at)}"),
        ("Ended", f"{zone.time(detail.completed_at)} {zone.abbreviation(detail.completed_at)}"),
        ("Router", _router(request.router_id, search)),
        ("Version of the router", str(detail.config_version) if request.router_id else UNKNOWN),
        ("Model", shown_name("model", request.model)),
        ("Provider", shown_name("provider", request.provider)),
        ("Request type", request.request_type),
        ("Finish reason", detail.finish_reason or UNKNOWN),
        ("HTTP status of the error", str(detail.error_status) if detail.error_status else UNKNOWN),
        ("Streamed", "yes" if detail.stream else "no"),
        ("Degraded", ", ".join(request.degraded) or "nothing"),
        ("User", request.user_id),
        ("API key", detail.api_key_id or UNKNOWN),
        ("Session", detail.session_id or UNKNOWN),
        ("Tags", ", ".join(f"{name}: {value}" for name, value in sorted(detail.tags.items())) or UNKNOWN),
        ("Workflow", detail.request.workflow_id),
    ]
    items = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in told]
    return panel("Facts", html.Dl(items, className="mp-facts"))


def _router(router_id: str | None, search: str) -> Element | str:
    name = shown_name("router", router_id or "")
    return dcc.Link(name, href=requests_link(search, router=name), className="mp-link")


def chart(label: str, figure: go.Figure) -> Element:
    """A chart as tall as its figure."""
    graph = dcc.Graph(
        figure=figure,
        config={"displayModeBar": False, "scrollZoom": False},
        responsive=True,
        style={"height": figure.layout.height},
    )
    return html.Div(graph, role="img", **aria(label=label))


FRAME = Frame("request", "Request", ranged=False, skeleton=(92, 320))


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(context, search, html.Div(id=ids.REQUEST_DETAIL))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    @FRAME.fills(app, context, Output(ids.REQUEST_DETAIL, "children"))
    def fill(asked: Asked) -> Filled:
        wanted, owner = asked.values.get("id"), asked.values.get("owner")
        if not wanted:
            return Filled(([],), _notice("No request chosen", "Choose one in the ", asked), hidden=True)
        found = context.reader.request(asked.scope.user_id, wanted, owner)
        if found is None:
            said = "There is none of this id among those that you may see, or its time of keeping is over. Back to the "
            return Filled(([],), _notice("No such request", said, asked), hidden=True)
        return Filled((parts(found, context.config, asked.zone, asked.search),))


def _notice(title: str, text: str, asked: Asked) -> Element:
    back = dcc.Link("list of requests", href=requests_link(asked.search), className="mp-link")
    return notice(title, text, back, ".", color="blue")


PAGE = Page(path=REQUEST_PATH, title="Request", layout=layout, register=register, under=REQUESTS_PATH)
