"""Short ways to make routers, models and requests over HTTP."""

from typing import Any

import aiohttp


def chat(prompt: str, **fields: Any) -> dict[str, Any]:
    """A chat body with one user message."""
    return {"messages": [{"role": "user", "content": prompt}], **fields}


async def put_model(client: aiohttp.ClientSession, model_id: str, provider_model: str, **fields: Any) -> None:
    """A model of the simulator; its name may ask for faults (docs/simulator.md)."""
    prices = {"costPerInputToken": 1e-6, "costPerOutputToken": 2e-6}
    capabilities = ["chat", "functions", "json", "vision"]
    body = {"id": model_id, "provider": "simulator", "providerModel": provider_model, "capabilities": capabilities}
    async with client.put(f"/api/models/{model_id}", json={**body, **prices, **fields}) as answer:
        assert answer.status in (200, 201), await answer.text()


async def put_router(client: aiohttp.ClientSession, router_id: str, models: list[str], **fields: Any) -> None:
    """A router over these models, cheapest first unless `fields` say otherwise."""
    body = {"id": router_id, "availableModels": models, "objective": {"costWeight": 1.0}, "sameModelRetries": 0}
    async with client.put(f"/api/routers/{router_id}", json={**body, **fields}) as answer:
        assert answer.status in (200, 201), await answer.text()


async def ask(
    client: aiohttp.ClientSession, router_id: str, body: dict[str, Any], **headers: str
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of one routed request."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post(f"/router/{router_id}", json=body, headers=named) as answer:
        return answer.status, await answer.json()


async def request_view(client: aiohttp.ClientSession, request_id: str) -> dict[str, Any] | None:
    """`GET /v1/requests/{id}`, None for 404."""
    async with client.get(f"/v1/requests/{request_id}") as answer:
        return None if answer.status == 404 else await answer.json()


async def ended(client: aiohttp.ClientSession, request_id: str) -> dict[str, Any] | None:
    """The request once it has ended, for `eventually`."""
    view = await request_view(client, request_id)
    return view if view is not None and view["status"] != "running" else None
