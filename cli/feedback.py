"""`modelpilot feedback`: what somebody thinks of an answer."""

from typing import Annotated

import typer

from cli.client import Refused, connect, fail
from cli.output import AsJson, show_result


def command(
    request_id: Annotated[str, typer.Argument(help="The id in the answer's `modelpilot` object.")],
    score: Annotated[float, typer.Argument(help="From 0 (useless) to 1 (as good as can be).", min=0.0, max=1.0)],
    comment: Annotated[str | None, typer.Option(help="Why, for people. It is kept encrypted.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rate an answer: the router learns which models are worth their price for such prompts.

    A second rating of the same request replaces the first. Exit codes: 0 taken, 1 refused (no such request …), 2 wrong
    usage or configuration, 3 the gateway is not reachable.
    """
    body = {"requestId": request_id, "score": score} | ({} if comment is None else {"comment": comment})
    try:
        rated = connect().call("POST", "/v1/feedback", body)
    except Refused as refused:
        fail(refused.message)
    said = f"request {rated['requestId']}: rated {rated['score']:g}; its quality is {rated['quality']:g}"
    show_result(rated, as_json, lambda: [f"{said} now (from {rated['qualitySource']})"])
