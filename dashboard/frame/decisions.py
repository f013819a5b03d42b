"""A decision as pages show it: the scores of the candidates as a chart and a table, and similar past prompts."""

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.frame.elements import Element, chart, dimmed, page_link, two_lines
from dashboard.frame.figures import bar_marker, bars_in_rows
from dashboard.frame.formats import UNKNOWN, format_grams, format_ms, format_share, format_usd
from dashboard.frame.tables import labelled_table
from dashboard.frame.urls import detail_link
from modelpilot.routing.decision import COMPONENTS, Part, ScoredModel, SimilarPrompt

_HOW_TO_READ = "Prediction → score (0 to 1, more is better) × weight = share of the total"
_COLUMNS = ("Model", "Quality", "Cost", "Latency", "Carbon", "Total", "Chance", "Evidence", "Why not")
_CHANCE = _COLUMNS.index("Chance")


def candidates(models: Sequence[ScoredModel], chosen: str, *, with_chances: bool) -> list[Element]:
    """The chart and the table of all candidates of a decision; `with_chances` adds how likely each was chosen."""
    scored = any(one.total is not None for one in models)
    drawn = [_bars_chart(score_bars(models, chosen))] if scored else []
    # The reasons of exclusion are a column where there are any.
    last = len(_COLUMNS) - all(one.excluded_because is None for one in models)
    kept = [place for place in range(last) if with_chances or place != _CHANCE]
    cells = [_candidate(one, chosen) for one in models]
    table = labelled_table(
        [_COLUMNS[place] for place in kept],
        [[row[place] for place in kept] for row in cells],
        numeric=(5, 6, 7) if with_chances else (5, 6),
    )
    return [*drawn, dimmed(_HOW_TO_READ, size="xs", my="xs"), table]


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
    made = bars_in_rows(traces, labels)
    return made.update_xaxes(
        title={"text": "score × weight, stacked to the total"}, tickformat=".2f", rangemode="tozero"
    )


def neighbours_table(found: Sequence[SimilarPrompt], search: str, owner: str) -> Element:
    """The past requests that a decision leaned on, each linked to its page."""
    rows = [
        (
            page_link(one.request_id, detail_link(search, one.request_id, owner)),
            one.model,
            UNKNOWN if one.similarity is None else f"{one.similarity:.3f}",
            UNKNOWN if one.quality is None else f"{one.quality:.3f}",
        )
        for one in found
    ]
    return labelled_table(("Request", "Model", "Similarity", "Quality"), rows, numeric=(2, 3))


def _bars_chart(figure: go.Figure) -> Element:
    return chart("score of each candidate", figure.layout.height, figure=figure)


def _label(one: ScoredModel, chosen: str) -> str:
    total = 0.0 if one.total is None else one.total
    return f"{one.model} · {total:.3f}{' · chosen' if one.model == chosen else ''}"


def _candidate(one: ScoredModel, chosen: str) -> Sequence[object]:
    of = {part.name: part for part in one.parts}
    total = UNKNOWN if one.total is None else f"{one.total:.3f}"
    name = f"{one.model} (chosen)" if one.model == chosen else one.model
    figures = [_part(of.get(part), scored=one.total is not None) for part in COMPONENTS]
    return name, *figures, total, format_share(one.probability), f"{one.evidence:,}", one.excluded_because or UNKNOWN


def _part(part: Part | None, *, scored: bool) -> Element | str:
    """A prediction in its unit, and below what became of it; without that where the model was excluded."""
    if part is None:
        return UNKNOWN
    if not scored:
        return _raw(part)
    return two_lines(_raw(part), f"→ {part.score:.3f} × {part.weight:.2f} = {part.weighted:.3f}")


def _raw(part: Part) -> str:
    if part.raw is None:
        return "unknown"
    if part.unit == "USD":
        return format_usd(part.raw)
    if part.unit == "ms":
        return format_ms(part.raw)
    return format_grams(part.raw) if part.name == "carbon" else f"{part.raw:.3f}"
