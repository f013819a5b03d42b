"""`modelpilot explain`: which model a router would choose for a prompt, and why. No provider is called."""

from typing import Annotated, Any

import typer

from cli.client import Refused, connect, fail, segment
from cli.output import AsJson, show_result, table

_PARTS = ("cost", "latency", "quality", "carbon")
_NEIGHBOURS_SHOWN = 10


def command(
    prompt: Annotated[str, typer.Argument(help="What the user would say.")],
    router: Annotated[str, typer.Option(help="The router's id.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Show the decision for a prompt without calling a provider.

    Each component reads: prediction ± its standard deviation → score from 0 to 1 (higher is better) × weight; `chosen`
    is the probability of each, exploration included. Exit codes: 0 decided, 1 refused
    (no model can serve the prompt …), 2 wrong usage or configuration, 3 the gateway is not reachable.
    """
    body = {"messages": [{"role": "user", "content": prompt}]}
    try:
        decision = connect().call("POST", f"/router/{segment(router)}/explain", body)["decision"]
    except Refused as refused:
        fail(refused.message)
    show_result(decision, as_json, lambda: described(decision))


def described(decision: dict[str, Any]) -> list[Any]:
    """The decision as lines and tables."""
    lines: list[Any] = [
        f"{decision['selectedModel']} is chosen ({decision['mode']}, version {decision['configVersion']}, "
        f"{decision['requestType']}, about {decision['promptTokens']} prompt tokens"
        + (", exploring" if decision["explored"] else "")
        + ")"
    ]
    if decision.get("predictor"):
        lines.append(f"with the fitted predictor of version {decision['predictor']['version']}")
    if decision["degraded"]:
        lines.append(f"degraded: {', '.join(decision['degraded'])} (catalogue values stand in)")
    lines += ["", _candidates(decision["candidates"])]
    excluded = [(c["model"], c["excludedBecause"]) for c in decision["candidates"] if c["total"] is None]
    if excluded:
        lines += ["", table(("excluded", "because"), excluded)]
    return [*lines, "", _neighbours(decision["neighbours"])]


def _candidates(candidates: list[dict[str, Any]]) -> Any:
    scored = sorted((c for c in candidates if c["total"] is not None), key=lambda c: (-c["total"], c["model"]))
    rows = [
        [c["model"], *(_component(c[part]) for part in _PARTS), f"{c['total']:.3f}", c["evidence"], _chance(c)]
        for c in scored
    ]
    return table(("model", *_PARTS, "total", "evidence", "chosen"), rows)


def _chance(candidate: dict[str, Any]) -> str | None:
    chance = candidate.get("probability")
    return None if chance is None else f"{chance:.1%}"


def _component(component: dict[str, Any]) -> str:
    spread = f" ± {component['sd']:.2g}" if component.get("sd") else ""
    raw = "unknown" if component["raw"] is None else f"{component['raw']:.4g}{spread} {component['unit']}".strip()
    return f"{raw} → {component['score']:.3f} × {component['weight']:.2f}"


def _neighbours(neighbours: list[dict[str, Any]]) -> Any:
    if not neighbours:
        return "No similar past prompts: the catalogue's values decide."
    rows = [
        [n["requestId"], n["model"], f"{n['similarity']:.3f}", n["quality"]] for n in neighbours[:_NEIGHBOURS_SHOWN]
    ]
    more = len(neighbours) - len(rows)
    return table(
        ("similar past request", "model", "similarity", "quality"), rows, title=f"and {more} more" if more else None
    )
