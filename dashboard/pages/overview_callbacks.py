"""Callbacks of the Overview page: thin, they read and hand over to `overview_view`."""

from typing import Any

from dash import Dash, Input, Output, ctx, no_update
from dash.exceptions import PreventUpdate

from dashboard import ids
from dashboard.pages.overview_view import RECENT_LIMIT, overview_view, unavailable_notice
from dashboard.pages.page import PageContext
from dashboard.ranges import range_by_key, range_from_url, url_for_range
from modelpilot.errors import DependencyUnavailable


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""

    @app.callback(
        Output(ids.OVERVIEW_RANGE, "value"),
        Output(ids.OVERVIEW_URL, "search"),
        Input(ids.OVERVIEW_RANGE, "value"),
        Input(ids.OVERVIEW_URL, "search"),
        prevent_initial_call=True,
    )
    def sync_range(selected: str, search: str) -> tuple[Any, Any]:
        """The control writes the URL; the URL (back button, typed by hand) sets the control."""
        if ctx.triggered_id == ids.OVERVIEW_RANGE:
            return no_update, changed_search(selected, search)
        return range_from_url(search).key, no_update

    @app.callback(Output(ids.OVERVIEW_TIMER, "disabled"), Input(ids.OVERVIEW_AUTO_REFRESH, "checked"))
    def pause(refreshing: bool) -> bool:
        """Auto-refresh can be paused."""
        return not refreshing

    @app.callback(
        Output(ids.NOTICE, "children"),
        Output(ids.OVERVIEW_LOADING, "hidden"),
        Output(ids.OVERVIEW_CONTENT, "className"),
        Output(ids.OVERVIEW_AS_OF, "children"),
        Output(ids.OVERVIEW_CARDS, "children"),
        Output(ids.OVERVIEW_TIME_CHART, "figure"),
        Output(ids.OVERVIEW_MODEL_CHART, "figure"),
        Output(ids.OVERVIEW_RECENT, "children"),
        Input(ids.OVERVIEW_URL, "search"),
        Input(ids.OVERVIEW_REFRESH, "n_clicks"),
        Input(ids.OVERVIEW_TIMER, "n_intervals"),
    )
    def show(search: str, *_: int | None) -> tuple[Any, ...]:
        """Fill the page."""
        return read_and_show(context, search)


def changed_search(selected: str, search: str) -> Any:
    """The query string for a selected range; no change where the URL says the same, which ends the circle."""
    chosen = range_by_key(selected)
    if chosen == range_from_url(search):
        raise PreventUpdate
    return url_for_range(chosen)


def read_and_show(context: PageContext, search: str) -> tuple[Any, ...]:
    """The values of the page's outputs, in their order. While the database is away, only the notice changes."""
    chosen = range_from_url(search)
    scope = chosen.scope(context.user_id, context.clock())
    try:
        overview = context.reader.overview(scope, chosen.bucket_s, RECENT_LIMIT)
    except DependencyUnavailable as error:
        return unavailable_notice(error.message), True, *[no_update] * 6
    view = overview_view(overview, scope, chosen, context.config)
    charts = view.time_chart, view.model_chart
    return view.notice, True, view.content_class, view.as_of, view.cards, *charts, view.recent
