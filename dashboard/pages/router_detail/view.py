"""What the page of one router shows: its settings, its versions and the difference between two of them, and the
sandbox: a prompt as a chat body, and the decision for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import orjson
from dash import html

from dashboard.frame.decisions import candidates, neighbours_table
from dashboard.frame.elements import Element, dimmed, page_link, stat_card, stat_grid
from dashboard.frame.formats import UNKNOWN, format_age, format_share
from dashboard.frame.page_frame import Asked
from dashboard.frame.tables import labelled_table
from dashboard.frame.urls import FRONTIER_PATH, ROUTER_PATH, WHAT_IF_PATH, link, requests_link, router_link
from dashboard.pages.routers import MODES, predictor_text, weights_text
from modelpilot.metrics.use import MOST_VERSIONS, RouterUse, RouterVersion
from modelpilot.routing.decision import predictor_of, scored_models, similar_prompts
from modelpilot.routing.router import FieldChange, added_and_removed, differences

# In the URL: the version that is looked at, and the one that it is compared with.
OLDER, NEWER = "v", "with"
_FIELDS_SHOWN = 3


def facts(router: RouterUse, asked: Asked, now_s: float) -> Element:
    """The router at a glance, and the pages about it."""
    body = router.body
    cards = stat_grid(
        [
            stat_card("Version", str(router.version), f"changed {format_age(now_s - router.updated_at)}"),
            stat_card("Chooses", MODES.get(str(body.get("mode")), UNKNOWN), weights_text(body)),
            stat_card("Models", str(len(body.get("availableModels") or [])), "may be chosen"),
            stat_card("Exploration", format_share(float(body.get("exploration") or 0.0)), "of the requests"),
        ]
    )
    links = [
        page_link("Requests", requests_link(asked.search, router=router.router_id)),
        page_link("What-if", router_link(WHAT_IF_PATH, asked.search, router)),
        page_link("Frontier", router_link(FRONTIER_PATH, asked.search, router)),
    ]
    owner = [dimmed(f"of {router.user_id}")] if asked.scope.user_id is None else []
    named = dmc.Group([dmc.Code(router.router_id), *owner, *links], gap="md", mb="sm", fz="sm")
    fitted = dmc.Group(
        [dmc.Text("Predictor:", size="sm"), html.Div(predictor_text(router.predictor, now_s))], my="sm", fz="sm"
    )
    every = labelled_table(("Field", "Value"), [(one.field, value_text(one.after)) for one in differences({}, body)])
    all_settings = html.Details([html.Summary("All settings", className="mp-summary"), every])
    return html.Div([named, cards, fitted, all_settings])


def versions_table(router: RouterUse, versions: Sequence[RouterVersion], asked: Asked) -> Element:
    """One row per version, newest first: when, by whom, and what it changed."""
    before = [*versions[1:], None]
    rows = [
        (
            f"{one.version} (now)" if one.version == router.version else str(one.version),
            asked.zone.time(one.made_at),
            one.made_by,
            _summary(earlier, one),
            _links(router, one, earlier, asked),
        )
        for one, earlier in zip(versions, before, strict=True)
    ]
    more = len(versions) >= MOST_VERSIONS
    hint = [dimmed(f"The newest {MOST_VERSIONS} versions.", size="xs")] if more else []
    return html.Div([labelled_table(("Version", "Made", "By", "Changed", "Compare"), rows), *hint])


def compared(
    router: RouterUse, versions: Sequence[RouterVersion], asked: Asked
) -> tuple[RouterVersion, RouterVersion] | None:
    """The two versions that the URL asks for, the second one today's unless it says otherwise; None: there are not."""
    by_number = {str(one.version): one for one in versions}
    older = by_number.get(asked.values.get(OLDER, ""))
    newer = by_number.get(asked.values.get(NEWER, str(router.version)))
    return None if older is None or newer is None else (older, newer)


def changes_table(older: RouterVersion, newer: RouterVersion) -> Element:
    """What differs between two versions, field by field."""
    found = differences(older.body, newer.body)
    if not found:
        return dmc.Text(f"Versions {older.version} and {newer.version} have the same settings.", size="sm")
    columns = ("Field", f"Version {older.version}", f"Version {newer.version}")
    return labelled_table(columns, [(html.Code(one.field), *_sides(one)) for one in found])


def value_text(value: Any) -> str:
    """A setting in words; what is not set is a dash."""
    if value is None or value == []:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    if isinstance(value, int | float):
        return f"{value:,.12g}"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _sides(change: FieldChange) -> tuple[Element | str, Element | str]:
    before, after = change.before, change.after
    if isinstance(before, list) and isinstance(after, list):
        added, removed = added_and_removed(before, after)
        if added or removed:
            return _marked("Only here: ", removed), _marked("Only here: ", added)
    return value_text(before), value_text(after)


def _marked(word: str, values: Sequence[Any]) -> str:
    return f"{word}{value_text(list(values))}" if values else "no others"


def _summary(earlier: RouterVersion | None, one: RouterVersion) -> str:
    if earlier is None:
        return "first version" if one.version == 1 else UNKNOWN
    fields = [change.field for change in differences(earlier.body, one.body)]
    shown = ", ".join(fields[:_FIELDS_SHOWN]) or "nothing"
    return f"{shown} and {len(fields) - _FIELDS_SHOWN} more" if len(fields) > _FIELDS_SHOWN else shown


def _links(router: RouterUse, one: RouterVersion, earlier: RouterVersion | None, asked: Asked) -> Element:
    def to(text: str, older: int, newer: int) -> Element:
        return page_link(text, _compare_link(router, older, newer, asked))

    shown = []
    if earlier is not None:
        shown.append(to(f"with {earlier.version}", earlier.version, one.version))
    if one.version != router.version:
        shown.append(to("with today's", one.version, router.version))
    return dmc.Group(shown, gap="sm")


def _compare_link(router: RouterUse, older: int, newer: int, asked: Asked) -> str:
    versions: Mapping[str, str] = {OLDER: str(older), NEWER: str(newer)}
    return link(ROUTER_PATH, asked.search, id=router.router_id, owner=router.user_id, **versions)


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
        return dimmed("None: nothing like it was asked before.")
    return neighbours_table(similar, search, owner)
