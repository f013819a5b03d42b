"""What every page with data has around it: title, time range, filters, refresh, and notices. One `PageFrame` per page.

A page calls `layout` and `register`, and fills its parts through `fills`. The frame keeps filters in the URL, reads the
tenant from the session, and turns an outage or an empty result into a notice that says what to do.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import dash_mantine_components as dmc
from dash import Dash, Input, Output, ctx, dcc, html, no_update
from dash.exceptions import PreventUpdate

from dashboard.frame.elements import Element, aria, in_browser, unavailable_notice
from dashboard.frame.filters import (
    NO_CHOICES,
    TENANT,
    Control,
    Filter,
    control_id,
    control_row,
    filter_id,
    filter_row,
    options,
)
from dashboard.frame.page import PageContext
from dashboard.frame.ranges import (
    AUTO,
    CUSTOM,
    NAMING,
    RANGES,
    Window,
    calendar,
    days_in_url,
    search_for_days,
    search_for_range,
    window_from_url,
)
from dashboard.frame.urls import query, search_with
from dashboard.frame.zones import Zone, zone_named
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.overview import Choices
from modelpilot.metrics.requests import AnalyticsScope

# The id of the store with the name of the time zone that the visitor chose; the shell fills it.
ZONE = "zone"
# Not display: none, since a chart that is drawn without a width keeps a wrong one.
CONTENT_HIDDEN, CONTENT_SHOWN = "mp-hidden", ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a visitor asks a page for. `scope` is checked: its tenant comes from the session, never from the browser.

    `search` is the whole query string, for links; `values` are its names, e.g. the page's filters. `now_s` (Unix
    seconds) is behind the end of a window that the visitor chose.
    """

    search: str
    window: Window
    scope: AnalyticsScope
    zone: Zone
    values: Mapping[str, str]
    now_s: float


@dataclass(frozen=True, slots=True)
class Filled:
    """The values of a page's outputs, in their order. `hidden` leaves nothing but the notice on the page."""

    values: tuple[Any, ...]
    notice: Element | None = None
    hidden: bool = False


Fill: TypeAlias = Callable[[Asked], Filled]


@dataclass(frozen=True)
class PageFrame:
    """The frame of the page `name` (a prefix of its ids). `ranged` False: its data have no time range."""

    name: str
    title: str
    filters: tuple[Filter, ...] = ()
    controls: tuple[Control, ...] = ()
    ranged: bool = True
    skeleton: tuple[int, ...] = field(default=(92, 320))  # heights in pixels of what stands there while loading

    def id(self, part: str) -> str:
        """The id of a part: url, range, refresh, auto, timer, notice, loading, content, as-of."""
        return f"{self.name}-{part}"

    @property
    def _all_filters(self) -> tuple[Filter, ...]:
        return (*self.filters, TENANT)

    @property
    def _days_id(self) -> str:
        return self.id(f"days{NAMING}")

    # --- what it looks like

    def layout(self, context: PageContext, search: str, *content: Element, with_controls: bool = True) -> Element:
        """The page with its controls and `content`, which is shown once it is filled. Without `with_controls` the page
        places `filters.control_row` itself."""
        controls = [control_row(self.name, self.controls, search)] if self.controls and with_controls else []
        return html.Div(
            [
                # Its own Location, so that the page's callbacks run only while the page is there.
                dcc.Location(id=self.id("url"), refresh="callback-nav"),
                self._header(search),
                filter_row(self.name, self.filters, search),
                html.Div(id=self.id("notice"), role="status", **aria(live="polite")),
                html.Div(
                    [dmc.Skeleton(h=height, mb="md") for height in self.skeleton],
                    id=self.id("loading"),
                    **aria(label="Loading"),
                ),
                html.Div(
                    [*controls, *content],
                    id=self.id("content"),
                    className=CONTENT_HIDDEN,
                ),
                dcc.Interval(id=self.id("timer"), interval=context.config.refresh_s * 1_000),
            ]
        )

    def _header(self, search: str) -> Element:
        title = html.Div(
            [
                dmc.Title(self.title, order=1, size="h3"),
                dmc.Text(id=self.id("as-of"), size="xs", c="dimmed", mih="1.4em"),
            ],
            className="mp-title",
        )
        controls = [self._range_control(search), calendar(self._days_id)] if self.ranged else []
        controls.append(
            dmc.Group(
                [
                    dmc.Switch(
                        id=self.id("auto"),
                        label="Auto-refresh",
                        checked=True,
                        persistence="auto-refresh",
                        persistence_type="local",
                        size="sm",
                    ),
                    dmc.Button("Refresh", id=self.id("refresh"), variant="default", size="xs"),
                ],
                gap="sm",
            )
        )
        return dmc.Group([title, dmc.Group(controls, gap="md")], justify="space-between", mb="md")

    def _range_control(self, search: str) -> Element:
        return dmc.SegmentedControl(
            id=self.id("range"),
            value=_range_key(search),
            data=_range_options(search),
            size="xs",
            className="mp-range",
            **aria(label="Time range"),
        )

    # --- what it does

    def register(self, app: Dash, context: PageContext) -> None:
        """Attach the callbacks of the controls."""
        self._register_url(app)
        self._register_choices(app, context)
        if self.controls:
            self._register_controls(app)
        in_browser(app, "paused", Output(self.id("timer"), "disabled"), Input(self.id("auto"), "checked"))

    def fills(self, app: Dash, context: PageContext, *outputs: Output) -> Callable[[Fill], Fill]:
        """Decorate the function that fills `outputs`; it runs whenever the URL, the time zone or the clock asks.

        It may raise DependencyUnavailable: the page then keeps what it shows, and says so.
        """

        def attach(fill: Fill) -> Fill:
            @app.callback(
                Output(self.id("notice"), "children"),
                Output(self.id("loading"), "hidden"),
                Output(self.id("content"), "className"),
                Output(self.id("as-of"), "children"),
                *outputs,
                *self.inputs(),
            )
            def show(search: str, zone: str | None, *_: Any) -> tuple[Any, ...]:
                """Fill the page."""
                try:
                    asked = self.asked(context, search, zone)
                    filled = fill(asked)
                except DependencyUnavailable as error:
                    return unavailable_notice(error.message), True, *[no_update] * (2 + len(outputs))
                shown = CONTENT_HIDDEN if filled.hidden else CONTENT_SHOWN
                return filled.notice, True, shown, self._as_of(asked), *filled.values

            return fill

        return attach

    def follow_points(self, app: Dash, graph_id: str) -> None:
        """Let a click on a point of this chart open the link that its `customdata` is, or ends with."""
        in_browser(app, "follow", Output(self.id("url"), "href"), Input(graph_id, "clickData"), at_start=False)

    def inputs(self) -> list[Input]:
        """What makes a page read again: its URL, the time zone, the refresh button, the timer."""
        return [
            Input(self.id("url"), "search"),
            Input(ZONE, "data"),
            Input(self.id("refresh"), "n_clicks"),
            Input(self.id("timer"), "n_intervals"),
        ]

    def asked(self, context: PageContext, search: str | None, zone: object = None) -> Asked:
        """What this visitor may see of what the URL asks for. Raises DependencyUnavailable where it names no range."""
        now_s, tenant = context.clock(), context.tenant(search)
        fits = self.ranged and _range_key(search) == AUTO
        window = window_from_url(search, now_s, context.reader.span(tenant) if fits else None)
        return Asked(
            search=search or "",
            window=window,
            scope=window.scope(tenant),
            zone=zone_named(zone),
            values=query(search),
            now_s=now_s,
        )

    def _as_of(self, asked: Asked) -> str:
        zone = asked.zone
        as_of = f"As of {zone.moment(asked.now_s)}"
        if not self.ranged:
            return as_of
        start, end = (f"{zone.local(one):%Y-%m-%d %H:%M}" for one in (asked.window.start_s, asked.window.end_s))
        why = f" · Auto: {asked.window.why}" if asked.window.why else ""
        return f"{as_of} · {start} to {end}{why}"

    def _register_url(self, app: Dash) -> None:
        controls = [self.id("range"), self._days_id] if self.ranged else []
        controls += [filter_id(self.name, one) for one in self._all_filters]

        # One callback for all: two that both write and read the URL would go round in circles. It also runs at first:
        # which days the calendar shows depends on the zone, which the layout does not know.
        @app.callback(
            Output(self.id("url"), "search"),
            *(Output(control, "value") for control in controls),
            *([Output(self.id("range"), "data")] if self.ranged else []),
            Input(self.id("url"), "search"),
            Input(ZONE, "data"),
            *(Input(control, "value") for control in controls),
        )
        def sync(search: str, zone_name: str | None, *chosen: Any) -> tuple[Any, ...]:
            """The controls write the URL; the URL (back button, typed by hand) sets the controls."""
            zone, moved = zone_named(zone_name), moved_inputs()
            given_up = self._days_id in moved and not any(chosen[1] or ())  # closed after the first of two days
            from_url = self.id("url") in moved or moved.isdisjoint(controls) or given_up
            written = search if from_url else self._search_of(search, zone, moved, chosen)
            if not from_url and written == search_with(search, {}):
                raise PreventUpdate  # they agree, which ends the circle
            in_url = query(written)
            values: list[Any] = [_range_key(written), days_in_url(written, zone)] if self.ranged else []
            values += [in_url.get(one.name) for one in self._all_filters]
            data = [_range_options(written)] if self.ranged else []
            return no_update if from_url else written, *values, *data

    def _search_of(self, search: str, zone: Zone, moved: Collection[str], chosen: tuple[Any, ...]) -> str:
        """The query string that says what the controls say."""
        selected, days, *values = chosen if self.ranged else (None, [], *chosen)
        if self._days_id in moved:
            if days != days_in_url(search, zone):
                search = search_for_days(search, days, zone) or search
        elif selected and selected != _range_key(search):
            search = search_for_range(search, selected)
        return search_with(search, {one.name: value for one, value in zip(self._all_filters, values, strict=True)})

    def _register_controls(self, app: Dash) -> None:
        url, ids = self.id("url"), [control_id(self.name, one) for one in self.controls]

        @app.callback(
            Output(url, "search", allow_duplicate=True),
            *(Output(one, "value") for one in ids),
            Input(url, "search"),
            *(Input(one, "value") for one in ids),
            prevent_initial_call=True,
        )
        def sync(search: str, *chosen: str | None) -> tuple[Any, ...]:
            """Whoever has changed tells the other."""
            if url in moved_inputs():
                return no_update, *(one.value(search) for one in self.controls)
            said = {one.name: one.in_url(value) for one, value in zip(self.controls, chosen, strict=True)}
            written = search_with(search, said)
            if written == search_with(search, {}):
                raise PreventUpdate  # they agree, which ends the circle
            return written, *(one.value(written) for one in self.controls)

    def _register_choices(self, app: Dash, context: PageContext) -> None:
        offering = [one for one in self._all_filters if one.choices]
        groups = [one for one in self.controls if one.tags]

        @app.callback(
            *(Output(filter_id(self.name, one), "data") for one in offering),
            *(Output(control_id(self.name, one), "data") for one in groups),
            Output(filter_id(self.name, TENANT), "display"),
            Input(self.id("url"), "search"),
        )
        def offer(search: str) -> tuple[Any, ...]:
            """The names that each filter offers to this visitor; none while the database is away."""
            known = _choices(context, search)
            data = [options(one, known, query(search).get(one.name)) for one in offering]
            data += [one.options(known, one.value(search)) for one in groups]
            return *data, "block" if len(known.tenants) > 1 else "none"


def moved_inputs() -> set[str]:
    """The ids of the inputs that set off the callback that runs now."""
    return {one["prop_id"].split(".")[0] for one in ctx.triggered}


def _choices(context: PageContext, search: str | None) -> Choices:
    try:
        known = context.reader.choices(context.tenant(search))
        if context.visitor.role == "admin":
            known = replace(known, tenants=context.reader.tenants())
    except DependencyUnavailable:
        return NO_CHOICES
    return known


def _range_key(search: str | None) -> str:
    return window_from_url(search, 0.0).key


def _range_options(search: str | None) -> list[dict[str, str]]:
    offered = [{"value": AUTO, "label": "Auto"}, *({"value": one.key, "label": one.label} for one in RANGES)]
    return [*offered, {"value": CUSTOM, "label": "Custom"}] if _range_key(search) == CUSTOM else offered
