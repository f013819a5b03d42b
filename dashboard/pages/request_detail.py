"""The page of one request: its decision, its provider calls, feedback and facts."""

from collections.abc import Sequence

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Output, html

from dashboard.config import DashboardConfig
from dashboard.frame.decisions import candidates, neighbours_table
from dashboard.frame.elements import (
    Element,
    chart,
    dimmed,
    notice,
    outside_link,
    page_link,
    panel,
    stat_card,
    stat_grid,
    status_badges,
)
from dashboard.frame.figures import COLORS, bars_in_rows, hatched
from dashboard.frame.filters import shown_name
from dashboard.frame.formats import (
    UNKNOWN,
    exact_usd,
    format_count,
    format_grams,
    format_ms,
    format_tokens,
    format_usd,
)
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.tables import labelled_table
from dashboard.frame.urls import REQUEST_PATH, REQUESTS_PATH, requests_link, workflow_url
from dashboard.frame.zones import Zone
from dashboard.pages.requests import key_text, tags_text
from modelpilot.metrics.requests import LoggedAttempt, RequestDetail
from modelpilot.providers.pricing import CHARGED, sum_of
from modelpilot.requests.outcome import BillLine
from modelpilot.routing.decision import predictor_of, scored_models, similar_prompts

# What a line of a bill counts.
UNITS = {
    "input": "Input tokens",
    "cached_input": "Input tokens read from the provider's cache",
    "cache_write_5m": "Input tokens written to the cache for 5 minutes",
    "cache_write_1h": "Input tokens written to the cache for an hour",
    "audio_input": "Input tokens of sound",
    "image_input": "Input tokens of pictures",
    "output": "Output tokens",
    "audio_output": "Output tokens of sound",
    "image_output": "Output tokens of pictures",
    "request": "Fee per request",
    "web_search": "Web searches",
    CHARGED: "The provider's own charge",
}
BILL_COLUMNS = ("Call", "Model", "For", "Quantity", "USD", "How it is known")
WAITING, WRITING, NO_ANSWER = "To the first token", "Writing the answer", "Failed or canceled"

FRAME = PageFrame("request", "Request", ranged=False, skeleton=(92, 320))
PARTS = FRAME.id("parts")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(context, search, html.Div(id=PARTS))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    @FRAME.fills(app, context, Output(PARTS, "children"))
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
    back = page_link("list of requests", requests_link(asked.search))
    return notice(title, text, back, ".", color="blue")


PAGE = Page(path=REQUEST_PATH, title="Request", layout=layout, register=register, under=REQUESTS_PATH)


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
                _bill(detail),
                _opinions(detail, zone),
                _facts(detail, zone, search),
            ],
            mt="md",
        ),
    ]


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
    made = bars_in_rows(traces, labels)
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


def _heading(detail: RequestDetail, config: DashboardConfig, search: str) -> Element:
    request = detail.request
    url = workflow_url(config, detail.request.workflow_id)
    links = [page_link("All requests", requests_link(search))]
    if url is not None:
        links.append(outside_link("Workflow in Temporal", url))
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
            stat_card("Cost", format_usd(request.cost_usd), "no price is known" if unpriced else _cost_hint(detail)),
            stat_card("Tokens in / out", tokens, further),
            stat_card("Quality", quality, source),
            stat_card("Carbon", format_grams(detail.carbon_g), "CO\u2082e, an estimate"),
            stat_card("Attempts", str(request.attempts), "provider calls"),
        ]
    )


def _decision(detail: RequestDetail) -> Element:
    models, chosen = scored_models(detail.decision), str(detail.decision.get("selectedModel") or "")
    if not models:
        return panel("Decision", dimmed("No models were compared for this request."))
    scored = sum(one.total is not None for one in models)
    how = dimmed(_how(detail, scored, len(models)), mb="xs")
    return panel("Decision", how, *candidates(models, chosen, with_chances=False))


def _how(detail: RequestDetail, scored: int, candidates: int) -> str:
    explored = "an exploration" if detail.explored else "by the highest total, no exploration"
    predictor = predictor_of(detail.decision)
    fitted = f"predictor version {predictor[0]}" if predictor else "no fitted predictor yet"
    return (
        f"{scored} of {candidates} models could be chosen. The choice: {explored}, made with probability "
        f"{detail.propensity:.3g}; {fitted}."
    )


def _neighbours(detail: RequestDetail, search: str) -> Element:
    found = similar_prompts(detail.decision)
    if not found:
        return panel("Similar past prompts", dimmed("None took part in this decision."))
    return panel("Similar past prompts", neighbours_table(found, search, detail.request.user_id))


def _attempts(detail: RequestDetail, zone: Zone) -> Element:
    if not detail.attempts:
        return panel("Attempts", dimmed("No provider was called."))
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
    drawn = chart("provider calls over time", figure.layout.height, figure=figure)
    return panel("Attempts", drawn, labelled_table(columns, rows, numeric=(5, 6, 7, 8)))


def _cost_hint(detail: RequestDetail) -> str:
    return "of all calls, an estimate: see the bill" if detail.estimated else "of all calls: see the bill"


def _bill(detail: RequestDetail) -> Element:
    said = f"An estimate: {detail.estimated}. " if detail.estimated else ""
    rows = bill_rows(detail)
    if not rows:
        cost = exact_usd(detail.request.cost_usd)
        return panel("Bill", dimmed(f"{said}No call has lines on a bill. The request cost {cost}."))
    how = "Counts are the provider's and prices the catalogue's, unless a line says otherwise."
    return panel("Bill", dimmed(f"{said}{how}", mb="xs"), labelled_table(BILL_COLUMNS, rows, numeric=(3, 4)))


def bill_rows(detail: RequestDetail) -> list[Sequence[str]]:
    """The lines of every call with all their digits, and last what the request cost: what they add up to."""
    lines = [(one, line) for one in detail.attempts for line in one.bill]
    rows: list[Sequence[str]] = [
        (
            str(one.seq + 1),
            one.model,
            UNITS.get(line.unit, line.unit),
            format_count(line.quantity),
            _line_usd(line.usd),
            _known_by(one, line),
        )
        for one, line in lines
    ]
    if rows:
        rows.append(("All", "", "The request", "", _line_usd(detail.request.cost_usd), _added_up(detail)))
    return rows


def _line_usd(usd: float | None) -> str:
    return "unknown" if usd is None else exact_usd(usd)


def _known_by(attempt: LoggedAttempt, line: BillLine) -> str:
    """What a line stands on: what the provider says that it charged, or counts times prices."""
    estimated = f"; an estimate: {attempt.estimated}" if attempt.estimated else ""
    if line.unit == CHARGED:
        return f"Charged by the provider; {_line_usd(attempt.list_cost_usd)} by the catalogue's prices{estimated}"
    unpriced = "; nobody knows the price" if line.usd is None else ""
    return f"{'Counted by us' if attempt.estimated else 'Counted by the provider'}{unpriced}{estimated}"


def _added_up(detail: RequestDetail) -> str:
    lines = sum_of(line for one in detail.attempts for line in one.bill)
    if lines is None:
        return "A price is unknown, so the sum is"
    unlisted = [one for one in detail.attempts if one.cost_usd and not one.bill]
    if unlisted or lines != detail.request.cost_usd:
        return f"The lines come to {exact_usd(lines)}: not every call has kept its own"
    return "The sum of the lines"


def _opinions(detail: RequestDetail, zone: Zone) -> Element:
    if not detail.opinions:
        hint = "No feedback and no verdict yet: POST /v1/feedback, or run the re-scoring job."
        return panel("Feedback", dimmed(hint))
    rows = [
        (zone.time(one.at), one.source, UNKNOWN if one.score is None else f"{one.score:.2f}", one.status)
        for one in detail.opinions
    ]
    return panel("Feedback", labelled_table(("Time", "From", "Score (0 to 1)", "State"), rows, numeric=(2,)))


def _facts(detail: RequestDetail, zone: Zone, search: str) -> Element:
    request = detail.request
    facts = [
        ("Began", zone.moment(request.created_at)),
        ("Ended", zone.moment(detail.completed_at)),
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
        ("Purpose", request.purpose),
        ("End user", request.end_user or UNKNOWN),
        ("API key", key_text(request) or UNKNOWN),
        ("Session", request.session_id or UNKNOWN),
        ("Tags", tags_text(request) or UNKNOWN),
        ("Workflow", detail.request.workflow_id),
    ]
    items = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts]
    return panel("Facts", html.Dl(items, className="mp-facts"))


def _router(router_id: str | None, search: str) -> Element | str:
    name = shown_name("router", router_id or "")
    return page_link(name, requests_link(search, router=name))
