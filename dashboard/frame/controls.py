"""Controls of a page that are no filters: choices that always have a value, and a text to look for.

Like filters they live in the URL. A choice at its default leaves the URL short.
"""

from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, ctx, no_update
from dash.exceptions import PreventUpdate

from dashboard.frame.elements import Element
from dashboard.frame.frame import Frame
from dashboard.frame.urls import query, search_with


@dataclass(frozen=True, slots=True)
class Control:
    """`name` is the one in the URL. With `values` (value, label) it is a choice, without them a text."""

    name: str
    label: str
    values: tuple[tuple[str, str], ...] = ()
    default: str = ""
    placeholder: str = ""

    def value(self, search: str | None) -> str:
        """What the URL says, or the default where that makes no sense."""
        said = query(search).get(self.name, self.default)
        return said if not self.values or said in dict(self.values) else self.default


def control_row(frame: Frame, controls: tuple[Control, ...], search: str) -> Element:
    """The controls side by side."""
    return dmc.Group([_element(frame, one, search) for one in controls], gap="sm", className="mp-filters")


def register_controls(app: Dash, frame: Frame, controls: tuple[Control, ...]) -> None:
    """Let the controls write the URL, and the URL (back button, links) set the controls."""
    url = frame.id("url")

    @app.callback(
        Output(url, "search", allow_duplicate=True),
        *(Output(_id(frame, one), "value") for one in controls),
        Input(url, "search"),
        *(Input(_id(frame, one), "value") for one in controls),
        prevent_initial_call=True,
    )
    def sync(search: str, *chosen: str | None) -> tuple[Any, ...]:
        """Whoever has changed tells the other."""
        if url in {one["prop_id"].split(".")[0] for one in ctx.triggered}:
            return no_update, *(one.value(search) for one in controls)
        written = search_with(search, {one.name: _said(one, said) for one, said in zip(controls, chosen, strict=True)})
        if written == search_with(search, {}):
            raise PreventUpdate  # they agree, which ends the circle
        return written, *(one.value(written) for one in controls)


def _said(one: Control, chosen: str | None) -> str | None:
    text = (chosen or "").strip()
    return None if text == one.default else text


def _id(frame: Frame, one: Control) -> str:
    return f"{frame.name}-control-{one.name}"


def _element(frame: Frame, one: Control, search: str) -> Element:
    shared: dict[str, Any] = {"id": _id(frame, one), "label": one.label, "value": one.value(search), "size": "xs"}
    shared["w"] = {"base": "calc(50% - 6px)", "xs": 200}
    if not one.values:
        return dmc.TextInput(**shared, placeholder=one.placeholder, debounce=True)
    data = [{"value": value, "label": label} for value, label in one.values]
    return dmc.Select(**shared, data=data, allowDeselect=False)
