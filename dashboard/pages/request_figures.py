"""Pure functions of the page of one request: its decision and its attempts → charts."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.figures import dressed, legend_below
from dashboard.formats import UNKNOWN, format_ms
from dashboard.palette import COLORS, bar_marker, hatched
from modelpilot.metrics.requests import LoggedAttempt
from modelpilot.routing.decision import COMPONENTS, ScoredModel

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
