"""`modelpilot routers`: show and change routers."""

from collections import Counter
from typing import Annotated, Any

import typer

from cli.client import EXIT_FAILED, GatewayClient, Refused, connect, segment
from cli.command_group import command_group
from cli.documents import File, read_documents
from cli.output import AsJson, print_json, show, table
from cli.router_learning import predictor, refit, replay

app = command_group("Show and change routers.")
for _command in (predictor, refit, replay):
    app.command()(_command)

_NOT_FOUND = 404
RouterId = Annotated[str, typer.Argument(help="The router's id.")]
Weight = Annotated[float, typer.Option(help="Its share of the total score, relative to the others.", min=0)]


@app.command("list")
def list_routers(as_json: AsJson = False) -> None:
    """All routers, newest first."""
    items = list(connect().items("/api/routers"))
    if as_json:
        print_json(items)
        return
    columns = ("id", "version", "mode", "models", "cost", "latency", "quality", "carbon", "updatedAt")
    show(table(columns, (_row(item) for item in items)))


@app.command("show")
def show_router(router_id: RouterId) -> None:
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
    items = connect().call("GET", f"{_path(router_id)}/versions")["items"]
    if as_json:
        print_json(items)
        return
    columns = ("id", "version", "mode", "models", "cost", "latency", "quality", "carbon", "updatedAt")
    show(table(columns, (_row(item) for item in items)))


@app.command()
def apply(file: File, as_json: AsJson = False) -> None:
    """Create or replace the routers of a file, and say of each whether it was created, updated or unchanged."""
    client = connect()
    results = [_applied(client, body) for body in read_documents(file)]
    if as_json:
        print_json(results)
    else:
        for result in results:
            about = f", version {result['version']}" if "version" in result else f": {result.get('error')}"
            typer.echo(f"router {result['id']}: {result['result']}{about}", err="error" in result)
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
