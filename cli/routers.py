"""`modelpilot routers`: show and change routers, what they have learnt, and what other settings would do."""

from collections import Counter
from typing import Annotated, Any

import typer

from cli.client import EXIT_FAILED, File, GatewayClient, Refused, connect, fail, read_documents, segment, until_ended
from cli.output import AsJson, JsonOnly, command_group, print_json, show, show_result, table

app = command_group("Show and change routers.")

RouterId = Annotated[str, typer.Argument(help="The router's id.")]
Weight = Annotated[float, typer.Option(help="Its share of the total score, relative to the others.", min=0)]
ReplayWeight = Annotated[float | None, typer.Option(help="Its weight in the proposed objective.", min=0)]

_NOT_FOUND = 404
_COLUMNS = ("id", "version", "mode", "models", "cost", "latency", "quality", "carbon", "updatedAt")
_PARTS = {"costUsd": "cost, USD", "latencyMs": "latency, ms", "quality": "quality", "carbonG": "carbon, gCO2e"}


@app.command()
def predictor(router_id: RouterId, as_json: AsJson = False) -> None:
    """The fitted predictor in use, and the versions that are kept."""
    found = connect().call("GET", f"{_path(router_id)}/predictor")
    if as_json:
        print_json(found)
        return
    used = "none is in use" if found["version"] is None else f"version {found['version']} is in use"
    columns = ("version", "fittedAt", "rows", "accepted", "reason")
    rows = [
        [v["version"], v["fittedAt"], v["rows"], v["accepted"], v["report"].get("refusedBecause")]
        for v in found["versions"]
    ]
    show(f"router {router_id}: {used}", "", table(columns, rows))


@app.command()
def refit(
    router_id: RouterId,
    wait_s: Annotated[float, typer.Option("--wait", help="Longest wait for its end, seconds.", min=0)] = 1_200.0,
    as_json: AsJson = False,
) -> None:
    """Fit the router's predictor to its outcomes now, and print the report. Exit code 1 where the fit was refused."""
    client = connect()
    client.call("POST", f"{_path(router_id)}/refit")
    run = _ended(client, router_id, wait_s)
    if as_json:
        print_json(run)
    elif run["report"] is not None:
        show(_reported(router_id, run["report"]))
    if run["status"] != "completed":
        fail(f"the refit of {router_id} failed; see workflow {run['workflowId']}")
    if run["report"]["status"] == "refused":
        raise typer.Exit(EXIT_FAILED)


def _ended(client: GatewayClient, router_id: str, wait_s: float) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        run: dict[str, Any] = client.call("GET", f"{_path(router_id)}/refit")
        return run

    run = until_ended(ask(), ask, wait_s)
    if run["status"] == "running":
        fail(f"the refit of {router_id} still runs; see workflow {run['workflowId']}")
    return run


def _reported(router_id: str, report: dict[str, Any]) -> str:
    version = "" if report["version"] is None else f", version {report['version']}"
    because = f": {report['reason']}" if report["reason"] else ""
    errors = report["fit"].get("error"), report["fit"].get("globalMeanError")
    better = "" if None in errors else f", held-out error {errors[0]:.4g} (means alone: {errors[1]:.4g})"
    choices = report["fit"].get("choices")
    chosen = "" if not choices else f", choices better by {choices['gain']:.4g} ± {choices['error']:.4g} in utility"
    return f"router {router_id}: {report['status']}{version}, {report['rows']} rows{better}{chosen}{because}"


@app.command()
def replay(
    router_id: RouterId,
    cost_weight: ReplayWeight = None,
    latency_weight: ReplayWeight = None,
    quality_weight: ReplayWeight = None,
    carbon_weight: ReplayWeight = None,
    model: Annotated[list[str] | None, typer.Option(help="A model to choose from; repeat for more.")] = None,
    exploration: Annotated[float | None, typer.Option(help="Share of explored requests.", min=0, max=1)] = None,
    start: Annotated[str | None, typer.Option("--from", help="Requests from this time on, ISO 8601.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Requests before this time, ISO 8601.")] = None,
    limit: Annotated[int, typer.Option(help="The newest so many requests.", min=1, max=10_000)] = 1_000,
    as_json: AsJson = False,
) -> None:
    """Score the router's logged decisions under other settings, without changing anything.

    One weight given makes the others 0; without any, each request keeps its own.
    """
    weights = {"cost": cost_weight, "latency": latency_weight, "quality": quality_weight, "carbon": carbon_weight}
    given = {f"{name}Weight": weight for name, weight in weights.items() if weight is not None}
    optional = {"objective": given or None, "availableModels": model, "exploration": exploration}
    body = {"limit": limit, **optional, "from": start, "to": end}
    answer = connect().call(
        "POST",
        f"/router/{segment(router_id)}/replay",
        {name: value for name, value in body.items() if value is not None},
    )
    show_result(answer, as_json, lambda: described(answer))


def described(answer: dict[str, Any]) -> list[Any]:
    """The answer of a replay as lines and tables."""
    changed = f"{answer['changedShare']:.1%} would go to another model"
    lines: list[Any] = [f"{answer['requests']} requests; {changed}; {answer['unserved']} could not be served"]
    predicted = [
        [label, *(_interval(answer["predicted"][name][column]) for column in ("logged", "proposed", "difference"))]
        for name, label in _PARTS.items()
    ]
    lines += ["", table(("predicted, mean (95 %)", "logged", "proposed", "difference"), predicted)]
    observed = [
        [
            _PARTS[name],
            *(_interval(found[column]) for column in ("logged", "inversePropensity", "doublyRobust")),
            f"{found['effectiveSampleSize']:.0f}",
        ]
        for name, found in answer["offPolicy"].items()
        if isinstance(found, dict)
    ]
    columns = ("from outcomes", "logged", "inverse propensity", "doubly robust", "effective outcomes")
    lines += ["", table(columns, observed)]
    shares = [
        [m["model"], f"{m['loggedShare']:.1%}", f"{m['proposedShare']:.1%}", m["evidence"]] for m in answer["models"]
    ]
    lines += ["", table(("model", "logged", "proposed", "neighbours"), shares)]
    return [*lines, "", *_warnings(answer["thinEvidence"], answer["offPolicy"]["unsupportedShare"])]


def _warnings(thin: dict[str, Any], unsupported: float) -> list[str]:
    said = []
    if thin["requestShare"] > 0:
        said.append(
            f"thin evidence: {thin['requestShare']:.1%} of the requests would go to a model with fewer than "
            f"{thin['minimumNeighbours']} similar past outcomes there"
        )
    if not thin["offPolicyReliable"]:
        said.append(
            f"the figures from outcomes are unreliable: worth {thin['effectiveSampleSize']:.0f} outcomes, and "
            f"{unsupported:.1%} of the proposal was never tried (exploration lets it be)"
        )
    return said + [f"not considered: {each['model']} ({each['because']})" for each in thin["notConsidered"]]


def _interval(found: dict[str, Any] | None) -> str:
    if found is None:
        return "unknown"
    return f"{found['mean']:.4g} ({found['low']:.4g} … {found['high']:.4g})"


@app.command("list")
def list_routers(as_json: AsJson = False) -> None:
    """All routers, newest first."""
    items = list(connect().items("/api/routers"))
    show_result(items, as_json, lambda: [table(_COLUMNS, (_row(item) for item in items))])


@app.command("show")
def show_router(router_id: RouterId, _: JsonOnly = True) -> None:
    """One router, as JSON that `apply` understands."""
    print_json(connect().call("GET", _path(router_id)))


@app.command()
def create(
    router_id: RouterId,
    model: Annotated[list[str], typer.Option(help="A model to choose from; repeat for more.")],
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    cost_weight: Weight = 0.0,
    latency_weight: Weight = 0.0,
    quality_weight: Weight = 0.0,
    carbon_weight: Weight = 0.0,
    fallback: Annotated[list[str] | None, typer.Option(help="A fallback model; repeat for more.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a router that chooses per prompt. All weights 0: all equal. `apply` knows every other setting."""
    weights = {"cost": cost_weight, "latency": latency_weight, "quality": quality_weight, "carbon": carbon_weight}
    body = {
        "id": router_id,
        "name": name,
        "availableModels": model,
        "objective": {f"{part}Weight": weight for part, weight in weights.items()},
        "fallbackStrategy": {"fallbackModels": fallback or []},
    }
    made = connect().call("POST", "/api/routers", body)
    if as_json:
        print_json(made)
    else:
        typer.echo(f"router {router_id}: created, version {made['version']}")


@app.command()
def delete(router_id: RouterId) -> None:
    """Delete a router. Its versions stay readable."""
    connect().call("DELETE", _path(router_id))
    typer.echo(f"router {router_id}: deleted")


@app.command()
def versions(router_id: RouterId, as_json: AsJson = False) -> None:
    """Every version of a router, newest first, also of a deleted one."""
    items = _versions(connect(), router_id)
    show_result(items, as_json, lambda: [table(_COLUMNS, (_row(item) for item in items))])


@app.command()
def rollback(
    router_id: RouterId,
    version: Annotated[int, typer.Argument(help="The version to go back to; `versions` lists them.", min=1)],
    as_json: AsJson = False,
) -> None:
    """Give a router the settings of an earlier version. They become a new version, so this can be undone as well."""
    client = connect()
    client.call("GET", _path(router_id))  # a deleted one is not made anew
    wanted = next((kept for kept in _versions(client, router_id) if kept["version"] == version), None)
    if wanted is None:
        fail(f"router {router_id} has no version {version}; `modelpilot routers versions {router_id}` lists them")
    made = client.call("PUT", _path(router_id), wanted)
    said = f"router {router_id}: version {made['version']} has the settings of version {version}"
    show_result(made, as_json, lambda: [said])


def _versions(client: GatewayClient, router_id: str) -> list[dict[str, Any]]:
    return list(client.items(f"{_path(router_id)}/versions"))


@app.command()
def apply(file: File, as_json: AsJson = False) -> None:
    """Create or replace the routers of a file, and say of each whether it was created, updated or unchanged."""
    client = connect()
    results = [_applied(client, body) for body in read_documents(file)]
    if as_json:
        print_json(results)
    else:
        for result in results:
            failed = "error" in result
            about = f": {result['error']}" if failed else f", version {result['version']}"
            whose = "modelpilot: " if failed else ""
            typer.echo(f"{whose}router {result['id']}: {result['result']}{about}", err=failed)
    if Counter(result["result"] for result in results)["failed"]:
        raise typer.Exit(EXIT_FAILED)


def _applied(client: GatewayClient, body: dict[str, Any]) -> dict[str, Any]:
    """One router's `{id, result, version | error}`; a refused one keeps no other from being applied."""
    router_id = body["id"]
    try:
        before = _version(client, router_id)
        after = client.call("PUT", _path(router_id), body)["version"]
    except Refused as refused:
        return {"id": router_id, "result": "failed", "error": refused.message}
    result = "created" if before is None else "unchanged" if before == after else "updated"
    return {"id": router_id, "result": result, "version": after}


def _version(client: GatewayClient, router_id: str) -> int | None:
    try:
        return int(client.call("GET", _path(router_id))["version"])
    except Refused as refused:
        if refused.status != _NOT_FOUND:
            raise
        return None


def _path(router_id: str) -> str:
    return f"/api/routers/{segment(router_id)}"


def _row(item: dict[str, Any]) -> list[Any]:
    objective = item["objective"]
    weights = [objective[f"{part}Weight"] for part in ("cost", "latency", "quality", "carbon")]
    models = item["availableModels"] if item["mode"] == "smartRouter" else item["preferredModel"]
    return [item["id"], item["version"], item["mode"], models, *weights, item["updatedAt"]]
