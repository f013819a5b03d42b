"""A provider that takes no connection, through the whole gateway."""

import aiohttp

from tests.support.requests import ask, chat, put_model, put_router
from tests.support.servers import deaf_server


async def test_a_provider_that_takes_no_connection_costs_the_connect_timeout_only(
    client: aiohttp.ClientSession,
) -> None:
    """The router's `connectMs` counts, not its long wait for a first token; then the fallback answers."""
    with deaf_server() as address:
        provider = {"id": "deaf", "kind": "openai", "baseUrl": f"http://{address}/v1", "apiKey": "none"}
        async with client.put("/api/providers/deaf", json=provider) as put:
            assert put.status in (200, 201), await put.text()
        await put_model(client, "own/deaf", "any", provider="deaf", costPerInputToken=1e-9, costPerOutputToken=1e-9)
        await put_router(
            client,
            "connect",
            ["own/deaf"],
            timeouts={"connectMs": 200, "firstTokenMs": 60_000},
            fallbackStrategy={"fallbackModels": ["sim/small"], "retryAttempts": 1},
        )
        status, body = await ask(client, "connect", chat("nobody takes the connection"))
    assert status == 200, body
    attempts = body["modelpilot"]["attempts"]
    assert [attempt["errorType"] for attempt in attempts] == ["timeout_connect", None]
    assert 200 <= attempts[0]["latencyMs"] < 30_000
