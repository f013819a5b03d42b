"""`modelpilot explain`: which model a router would choose for a prompt, and why. No provider is called."""

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10
from typing import Annotated, Any

import typer

from cli.client import Refused, connect, fail, segment
from cli.output import AsJson, show_result, table

_PARTS = ("cost", "latency", "quality", "carbon")
# What people can picture: the cost of one request has too many zeros.
_REQUESTS = 1_000
_UNITS = {"cost": f"$ per {_REQUESTS:,}", "latency": "latency, ms", "quality": "quality", "carbon": "carbon, g"}
_FACTORS = {"cost": float(_REQUESTS)}
_NEIGHBOURS_SHOWN = 10
_WIDTH = 100  # characters a line
_NAME_WIDTH, _NAME_TAIL = 26, 16


def command(
    prompt: Annotated[str, typer.Argument(help="What the user would say.")],
    router: Annotated[str, typer.Option(help="The router's id.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Show the decision for a prompt without calling a provider.

    The first table has what each model would probably do, the second one how good that is by the router's objective;
    the highest total is chosen. Exit codes: 0 decided, 1 refused (no model can serve the prompt …), 2 wrong usage or
    configuration, 3 the gateway is not reachable.
    """
    body = {"messages": [{"role": "user", "content": prompt}]}
    try:
        decision = connect().call("POST", f"/router/{segment(router)}/explain", body)["decision"]
    except Refused as refused:
        fail(refused.message)
    show_result(decision, as_json, lambda: described(router, decision), width=_WIDTH)


def described(router: str, decision: Mapping[str, Any]) -> list[Any]:
    """The decision as lines and tables."""
    scored = [each for each in decision["candidates"] if each["total"] is not None]
    scored.sort(key=lambda each: (-each["total"], each["model"]))
    excluded = [(each["model"], each["excludedBecause"]) for each in decision["candidates"] if each["total"] is None]
    lines: list[Any] = [*_headline(router, decision, len(scored)), ""]
    if scored:
        lines += _tables(scored)
    if excluded:
        lines += ["", table(("cannot serve this prompt", "because"), excluded)]
    return [*lines, "", *_neighbours(decision["neighbours"])]


def _headline(router: str, decision: Mapping[str, Any], scored: int) -> list[str]:
    reason = f"of {scored} models that can serve this prompt it has the highest total"
    if decision["mode"] == "preferredModel":
        reason = "it is the model that the router prefers"
    elif decision["explored"]:
        reason = f"as an exploration among {scored} models, so that it gets evidence as well"
    what = f"type {decision['requestType']}, about {decision['promptTokens']} tokens"
    lines = [
        f"{decision['selectedModel']} is chosen: {reason}.",
        f"Router {router}, version {decision['configVersion']}. Prompt: {what}.",
    ]
    if learner := decision.get("learner"):
        which = {"online": "what the router has learnt online", "fit": "a fit to the router's past answers"}
        lines.append(f"Expected by {which[learner['decidedBy']]} (state {learner['version']}): {learner['because']}.")
    if missing := ", ".join(decision["degraded"]):
        lines.append(f"Not available now (degraded): {missing}. The catalogue's values stand in.")
    return lines


def _tables(scored: Sequence[Mapping[str, Any]]) -> list[Any]:
    names = shortened([each["model"] for each in scored])
    predicted = [
        [name, *(_predicted(part, each[part]) for part in _PARTS), each["evidence"]]
        for name, each in zip(names, scored, strict=True)
    ]
    judged = [
        [name, *(f"{each[part]['score']:.2f}" for part in _PARTS), f"{each['total']:.3f}", _chance(each)]
        for name, each in zip(names, scored, strict=True)
    ]
    weights = [f"{part} × {scored[0][part]['weight']:.2f}" for part in _PARTS]
    return [
        "What each model would probably do (± one standard deviation). Evidence: past answers of that model",
        "in this router; without any it is the catalogue, or what other models have taught.",
        "",
        table(("model", *_UNITS.values(), "evidence"), predicted),
        "",
        "How good that is, from 0 (worst) to 1 (best). Times the weights of the router's objective and",
        "added up it is the total. Chance: of being chosen, exploration included.",
        "",
        table(("model", *weights, "total", "chance"), judged),
        *_learnt(names, scored),
    ]


def _learnt(names: Sequence[str], scored: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Where each expected quality comes from; nothing where no decision says it."""
    parts = [(name, each["learnt"]) for name, each in zip(names, scored, strict=True) if each.get("learnt")]
    rows = [
        (
            name,
            f"{learnt['catalogue']:.3f}",
            f"{learnt['level']:+.3f}",
            f"{learnt['prompt']:+.3f}",
            f"{learnt['sd']:.3f}",
            f"{learnt['grades']:g}",
            None if learnt["fitted"] is None else f"{learnt['fitted']:.3f}",
        )
        for name, learnt in parts
    ]
    columns = ("model", "catalogue", "level", "this prompt", "± sd", "grades", "fit")
    said = "Where the quality comes from: the catalogue, what was learnt of every prompt and of prompts like this one."
    return ["", said, "", table(columns, rows)] if rows else []


def shortened(names: Sequence[str]) -> list[str]:
    """Long names without their middles: provider and size stand at the ends. All whole where two would look alike."""
    head = _NAME_WIDTH - _NAME_TAIL - 1
    short = [name if len(name) <= _NAME_WIDTH else f"{name[:head]}…{name[-_NAME_TAIL:]}" for name in names]
    return short if len(set(short)) == len(set(names)) else list(names)


def _predicted(part: str, component: Mapping[str, Any]) -> str:
    if component["raw"] is None:
        return "unknown"
    factor, spread = _FACTORS.get(part, 1.0), component.get("sd")
    return plain(component["raw"] * factor, 3) + (f" ± {plain(spread * factor, 2)}" if spread else "")


def plain(value: float, digits: int) -> str:
    """So many significant digits, without an exponent: `0.00012`, `1,440`."""
    if value == 0:
        return "0"
    places = digits - 1 - floor(log10(abs(value)))
    return f"{round(value, places):,.{max(places, 0)}f}"


def _chance(candidate: Mapping[str, Any]) -> str | None:
    chance = candidate.get("probability")
    return None if chance is None else f"{chance:.1%}"


def _neighbours(neighbours: Sequence[Mapping[str, Any]]) -> Iterable[Any]:
    if not neighbours:
        return ["No similar past prompts."]
    nearest = neighbours[:_NEIGHBOURS_SHOWN]
    names = shortened([each["model"] for each in nearest])
    rows = [
        [each["requestId"], name, f"{each['similarity']:.2f}", each["quality"]]
        for name, each in zip(names, nearest, strict=True)
    ]
    title = f"The {len(rows)} most similar past prompts (similarity 1: the same; quality –: nobody has judged it)."
    return [title, "", table(("request", "model", "similarity", "quality"), rows)]
