"""Callbacks that run in the browser: the functions are in `assets/modelpilot.js`, since the policy allows no others."""

from dash import ClientsideFunction, Dash, Input, Output, State


def in_browser(app: Dash, function: str, *arguments: Output | Input | State, at_start: bool = True) -> None:
    """Attach a function of `assets/modelpilot.js`. `at_start` False: not before something has changed."""
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("modelpilot", function), *arguments, prevent_initial_call=not at_start
    )
