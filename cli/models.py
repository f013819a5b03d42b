"""`modelpilot models`: show and change the model catalogue."""

from typing import Annotated, Any

import typer

from cli.client import File, connect, segment
from cli.output import AsJson, JsonOnly, command_group, per_million, print_json, put_documents, show_result, table

app = command_group("Show and change the model catalogue.")

ModelId = Annotated[str, typer.Argument(help="The model's id, such as sim/small.")]
_COLUMNS = ("id", "provider", "in $/M", "out $/M", "latency ms", "quality", "gCO2e/1k", "context", "shared")


@app.command("list")
def list_models(
    provider: Annotated[str | None, typer.Option(help="Only those that this provider serves.")] = None,
    capability: Annotated[list[str] | None, typer.Option(help="Only those that can do this; repeat for more.")] = None,
    available: Annotated[bool, typer.Option("--available", help="Only those whose provider can be called.")] = False,
    search: Annotated[str | None, typer.Option(help="Only those with this in their names.")] = None,
    as_json: AsJson = False,
) -> None:
    """Your models and the shared ones, by id. Prices in USD per million tokens."""
    wanted = {"provider": provider, "search": search, "capability": capability, "available": available and "true"}
    items = list(connect().items("/api/models", {name: value for name, value in wanted.items() if value}))
    show_result(items, as_json, lambda: [table(_COLUMNS, (_row(item) for item in items))])


@app.command("show")
def show_model(model_id: ModelId, _: JsonOnly = True) -> None:
    """One model, as JSON that `put` understands."""
    print_json(connect().call("GET", _path(model_id)))


@app.command()
def put(file: File, as_json: AsJson = False) -> None:
    """Create or replace the models of a file. A shared model of the same id is hidden by yours."""
    put_documents("model", _path, file, as_json=as_json)


@app.command()
def delete(model_id: ModelId) -> None:
    """Delete a model of yours. A shared one of the same id shows again."""
    connect().call("DELETE", _path(model_id))
    typer.echo(f"model {model_id}: deleted")


def _path(model_id: str) -> str:
    return f"/api/models/{segment(model_id, slashes=True)}"


def _row(item: dict[str, Any]) -> list[Any]:
    prices = [per_million(item[name]) for name in ("costPerInputToken", "costPerOutputToken")]
    known = [item[name] for name in ("avgLatencyMs", "qualityScore", "carbonGPer1kTokens")]
    return [item["id"], item["provider"], *prices, *known, item["limits"]["contextWindow"], item["shared"]]
