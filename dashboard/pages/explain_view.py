"""Pure functions of the explain sandbox: a prompt → a chat body, and a decision → what is shown of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.elements import Element
from dashboard.formats import UNKNOWN, format_share
from dashboard.labelled import labelled_table
from dashboard.pages.request_detail_view import HOW_TO_READ, chart, neighbours_table, part_cell
from dashboard.pages.request_figures import score_bars
from modelpilot.routing.decision import COMPONENTS, ScoredModel, predictor_of, scored_models, similar_prompts

TOOLS, JSON = "tools", "json"
NEEDS = ((TOOLS, "with tools"), (JSON, "answer as JSON"))
MOST_PROMPT_CHARS = 100_000
_A_TOOL = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}


def chat_body(prompt: str, needs: Sequence[str]) -> dict[str, Any]:
    """The body of a request with this prompt that needs these things of a model."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt[:MOST_PROMPT_CHARS]}]}
    if TOOLS in needs:
        body["tools"] = [_A_TOOL]
    if JSON in needs:
        body["response_format"] = {"type": "json_object"}
    return body


def decision(found: Mapping[str, Any], search: str, owner: str) -> Element:
    """The whole decision: which model, how the others did, and what it was made from."""
    models, chosen = scored_models(found), str(found.get("selectedModel") or "")
    scored = [one for one in models if one.total is not None]
    charts = [chart("Chart: score of each candidate", score_bars(models, chosen))] if scored else []
    return html.Div(
        [
            dmc.Text([html.Strong(chosen), f" would be chosen. {made_from(found)}"], size="sm", mb="xs"),
            *charts,
            dmc.Text(HOW_TO_READ, size="xs", c="dimmed", my="xs"),
            _candidates(models, chosen),
            dmc.Title("Similar past prompts", order=3, size="h6", mt="md", mb="xs"),
            _neighbours(found, search, owner),
        ]
    )


def made_from(found: Mapping[str, Any]) -> str:
    """What the decision stands on, in a few sentences."""
    fitted = predictor_of(found)
    degraded = [str(one) for one in found.get("degraded") or ()]
    said = [
        f"Settings of version {found.get('configVersion')}; {found.get('requestType')} request of about "
        f"{found.get('promptTokens')} prompt tokens; "
        + (f"predictor version {fitted[0]}." if fitted else "no fitted predictor yet.")
    ]
    if degraded:
        said.append(f"Without {', '.join(degraded)}: it could not be had, so the catalogue's values stand in.")
    return " ".join(said)


def _candidates(models: Sequence[ScoredModel], chosen: str) -> Element:
    columns = ("Model", "Quality", "Cost", "Latency", "Carbon", "Total", "Chance", "Evidence", "Why not")
    shown = len(columns) - all(one.excluded_because is None for one in models)
    return labelled_table(columns[:shown], [_candidate(one, chosen)[:shown] for one in models], numeric=(5, 6, 7))


def _candidate(one: ScoredModel, chosen: str) -> Sequence[object]:
    of = {part.name: part for part in one.parts}
    total = UNKNOWN if one.total is None else f"{one.total:.3f}"
    name = f"{one.model} (chosen)" if one.model == chosen else one.model
    figures = [part_cell(of.get(part), scored=one.total is not None) for part in COMPONENTS]
    return name, *figures, total, format_share(one.probability), f"{one.evidence:,}", one.excluded_because or UNKNOWN


def _neighbours(found: Mapping[str, Any], search: str, owner: str) -> Element:
    similar = similar_prompts(found)
    if not similar:
        said = "None: the catalogue's values and the predictor decide alone."
        return dmc.Text(said, size="sm", c="dimmed")
    return neighbours_table(similar, search, owner)
