"""A provider that refuses its key, or a model to it: that is not asked for again, and the key shows nowhere."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from bench.faults.runs import FaultLab, open_lab_session, prices
from tests.support.world import Gateway, World

ERRORS = {401: "authentication", 403: "permission"}
SKIPPED = {401: "provider {} refused its API key", 403: "provider {} refused this model"}


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    """One gateway; every test has a provider, and so a key, of its own."""
    with world.gateway() as running:
        yield running


@pytest.fixture
async def lab(world: World, gateway: Gateway) -> AsyncIterator[FaultLab]:
    """A client of it."""
    async with open_lab_session(world.admin_key) as session:
        yield FaultLab(session, gateway.url, world.simulator_url)


async def _set_up(lab: FaultLab, name: str, status: int, secret: str, fallbacks: list[str]) -> None:
    """A router whose first model's provider answers `status`, which for a 401 repeats the key."""
    provider = {"kind": "openai", "baseUrl": f"{lab.simulator_url}/v1", "apiKey": secret}
    await lab.put("providers", name, provider)
    price = {"costPerInputToken": 1e-6, "costPerOutputToken": 2e-6, "capabilities": ["chat"]}
    model = {"provider": name, "providerModel": f"small+{status}", **price}
    await lab.put("models", f"{name}/refusing", model)
    await lab.put_model(f"{name}/steady", "medium+latency5", prices(1))
    strategy = {"fallbackModels": fallbacks, "retryAttempts": len(fallbacks)}
    preferred = {"mode": "preferredModel", "preferredModel": f"{name}/refusing"}
    await lab.put("routers", name, {**preferred, "fallbackStrategy": strategy, "sameModelRetries": 2})


async def _text(lab: FaultLab, path: str) -> str:
    async with lab.session.get(lab.api_url + path) as answer:
        assert answer.status == 200, path
        return f"{answer.headers} {await answer.text()}"


async def _ask(lab: FaultLab, router: str, prompt: str, *, stream: bool) -> tuple[aiohttp.ClientResponse, str]:
    body = {"messages": [{"role": "user", "content": prompt}], "stream": stream}
    explain = {"x-request-id": prompt, "x-modelpilot-explain": "true"}
    async with lab.session.post(f"{lab.api_url}/router/{router}", json=body, headers=explain) as answer:
        return answer, f"{answer.headers} {await answer.text()}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_left_alone_and_shows_nowhere(
    lab: FaultLab, gateway: Gateway, status: int, stream: bool
) -> None:
    """One call, unbilled, then the fallback; the next request does not try that key, or where a 403 speaks of the model
    alone, that model; no output has the secret."""
    name, secret = f"refusing-{status}-{stream}", f"sk-canary-{status}-{stream}-0123456789"
    await _set_up(lab, name, status, secret, [f"{name}/steady"])
    answer, first = await _ask(lab, name, f"{name}-first", stream=stream)
    assert answer.status == 200, first
    view = await lab.ended_view(f"{name}-first")
    attempts = [(attempt["model"], attempt["errorType"]) for attempt in view["attempts"]]
    assert attempts == [(f"{name}/refusing", ERRORS[status]), (f"{name}/steady", None)]
    assert (view["status"], view["attempts"][0]["costUsd"]) == ("completed", 0.0)
    assert view["costUsd"] == view["attempts"][1]["costUsd"] > 0

    _, second = await _ask(lab, name, f"{name}-second", stream=stream)
    assert SKIPPED[status].format(name) in second
    counts = (await lab.calls(f"{name}-"))["counts"]
    assert counts["byModel"] == {f"small+{status}": 1, "medium+latency5": 2}

    health = await _text(lab, "/api/health/deployments")
    assert (f'"{name}"' in health.split('"refusedKeys"')[1]) == (status == 401)
    shown = [first, second, health, *await _everything_else(lab, name), gateway.log.read_text()]
    assert not [text for text in shown if secret in text]


async def _everything_else(lab: FaultLab, name: str) -> list[str]:
    paths = [f"/v1/requests/{name}-first", f"/api/providers/{name}", "/api/providers", "/api/audit", "/metrics"]
    return [await _text(lab, path) for path in paths]


async def test_a_refused_key_without_a_fallback_is_a_clean_error(lab: FaultLab, gateway: Gateway) -> None:
    """502 after one call, with a reason and without the key; a changed key is tried at once."""
    name, secret = "refusing-alone", "sk-canary-alone-0123456789"
    await _set_up(lab, name, 401, secret, [])
    answer, text = await _ask(lab, name, f"{name}-first", stream=False)
    assert answer.status == 502
    assert "Incorrect API key provided" in text
    assert (await lab.calls(f"{name}-"))["counts"]["total"] == 1
    assert secret not in text
    assert secret not in gateway.log.read_text()

    await lab.put("providers", name, {"kind": "openai", "baseUrl": f"{lab.simulator_url}/v1", "apiKey": "sk-another"})
    assert f'"{name}"' not in (await _text(lab, "/api/health/deployments")).split('"refusedKeys"')[1]
