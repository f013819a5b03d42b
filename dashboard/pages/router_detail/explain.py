"""The sandbox on the page of one router: a prompt → a chat body, and the decision for it → what is shown of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from dashboard.frame.decisions import candidates, neighbours_table
from dashboard.frame.elements import Element, dimmed
from modelpilot.routing.decision import predictor_of, scored_models, similar_prompts

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
    chosen = str(found.get("selectedModel") or "")
    return html.Div(
        [
            dmc.Text([html.Strong(chosen), f" would be chosen. {made_from(found)}"], size="sm", mb="xs"),
            *candidates(scored_models(found), chosen, with_chances=True),
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


def _neighbours(found: Mapping[str, Any], search: str, owner: str) -> Element:
    similar = similar_prompts(found)
    if not similar:
        return dimmed("None: the catalogue's values and the predictor decide alone.")
    return neighbours_table(similar, search, owner)
