"""`modelpilot models`: show and change the model catalogue."""

from typing import Annotated, Any

import typer

from cli.client import File, connect, read_documents, segment
from cli.output import AsJson, command_group, per_million, print_json, show_result, table

app = command_group("Show and change the model catalogue.")

ModelId = Annotated[str, typer.Argument(help="The model's id, such as sim/small.")]
_COLUMNS = ("id", "provider", "in $/M", "out $/M", "latency ms", "quality", "gCO2e/1k", "context", "shared")


@app.command("list")
def list_models(
    provider: Annotated[str | None, typer.Option(help="Only the models of this provider.")] = None,
    as_json: AsJson = False,
) -> None:
    """Your models and the shared ones, by id. Prices in USD per million tokens."""
    items = [item for item in connect().items("/api/models") if provider in (None, item["provider"])]
    show_result(items, as_json, lambda: [table(_COLUMNS, (_row(item) for item in items))])


@app.command("show")
def show_model(model_id: ModelId) -> None:
    """One model, as JSON that `put` understands."""
    print_json(connect().call("GET", _path(model_id)))


@app.command()
def put(file: File, as_json: AsJson = False) -> None:
    """Create or replace the models of a file. A shared model of the same id is hidden by yours."""
    client = connect()
    stored = [client.call("PUT", _path(body["id"]), body) for body in read_documents(file)]
    if as_json:
        print_json(stored)
        return
    for item in stored:
        typer.echo(f"model {item['id']}: stored")


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
