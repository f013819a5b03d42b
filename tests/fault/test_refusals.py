"""Models that refuse a request, at a real server: the request goes on to the next model, or the client learns why."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.requests import chat, put_model, put_router
from tests.support.routing_samples import completion
from tests.support.world import Gateway, World

Answers = Callable[[dict[str, Any]], tuple[int, Any]]
FIXED = {"error": {"message": "this model has a fixed temperature of 1", "type": "invalid_request_error"}}
NAMED = {"error": {**FIXED["error"], "code": "unsupported_value", "param": "temperature"}}
MALFORMED = {"error": {"message": "the roles do not fit", "type": "invalid_request_error", "param": "messages[0].role"}}
PLAN = {"object": "error", "message": "this plan does not include the model", "type": "plan_too_small", "code": "77"}
TOO_LONG = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}


def says(status: int, body: Any) -> Answers:
    """A model that always answers so."""
    return lambda _: (status, body)


def takes_no_temperature(body: dict[str, Any]) -> tuple[int, Any]:
    """A model with a fixed temperature, which names the parameter."""
    return (400, NAMED) if "temperature" in body else (200, completion("fine"))


@dataclass
class Provider:
    """A server of models by name, and the models that were called."""

    gateway: aiohttp.ClientSession
    models: dict[str, Answers] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """OpenAI's chat completions, never streamed."""
        body = await request.json()
        self.called.append(body["model"])
        status, answer = self.models[body["model"]](body)
        return web.Response(status=status, body=orjson.dumps(answer), content_type="application/json")

    async def router(self, name: str, *models: Answers, fallbacks: int = 0) -> None:
        """A router of these models, named 0, 1 …, the first the best; the last few of them are its fallbacks."""
        names = [f"{name}/{number}" for number in range(len(models))]
        for number, model in enumerate(models):
            self.models[f"{name}-{number}"] = model
            quality = {"provider": "refusing", "qualityScore": 0.9 - 0.1 * number}
            await put_model(self.gateway, names[number], f"{name}-{number}", **quality)
        strategy = {"fallbackModels": names[len(names) - fallbacks :] if fallbacks else [], "retryAttempts": 2}
        shaped = {"objective": {"qualityWeight": 1.0}, "upstream": "whole", "fallbackStrategy": strategy}
        await put_router(self.gateway, name, names, **shaped)

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an answer."""
        async with self.gateway.post(path, json=body) as answer:
            return answer.status, await answer.json()


@pytest.fixture(scope="module")
def gateway(world: World) -> Iterator[Gateway]:
    """One gateway for all of these tests."""
    with world.gateway() as running:
        yield running


@pytest.fixture
async def provider(world: World, gateway: Gateway) -> AsyncIterator[Provider]:
    """A provider whose models refuse, known to the gateway."""
    async with world.client(gateway) as client:
        refusing, app = Provider(client), web.Application()
        app.router.add_post("/v1/chat/completions", refusing.answer)
        async with TestServer(app) as server:
            body = {"kind": "openai", "baseUrl": str(server.make_url("/v1")), "apiKey": "sk-refusing-0123"}
            async with client.put("/api/providers/refusing", json=body) as put:
                assert put.status in (200, 201), await put.text()
            yield refusing


def attempts(answer: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Model and error of each attempt."""
    return [(each["model"], each["errorType"]) for each in answer["modelpilot"]["attempts"]]


@pytest.mark.parametrize("fallbacks", [0, 1])
@pytest.mark.parametrize("path", ["/router/{}", "/v1/messages"])
async def test_another_model_answers(provider: Provider, fallbacks: int, path: str) -> None:
    """With and without configured fallbacks, on both routes; both attempts are shown, and the refused one is free."""
    name = f"goes-on-{fallbacks}{path[1]}"
    await provider.router(name, says(400, FIXED), says(200, completion("fine")), fallbacks=fallbacks)
    body = chat("hi", model=f"router/{name}", temperature=0, max_tokens=99)
    status, answer = await provider.ask(path.format(name), body)
    assert (status, attempts(answer)) == (200, [(f"{name}/0", "bad_request"), (f"{name}/1", None)])
    assert answer["modelpilot"]["attempts"][0]["costUsd"] == 0.0
    assert provider.called == [f"{name}-0", f"{name}-1"]


async def test_what_a_model_refused_is_remembered(provider: Provider) -> None:
    """The next request with that parameter goes elsewhere at once and says why; without it nothing has changed."""
    await provider.router("remembers", takes_no_temperature, says(200, completion("fine")))
    for _ in range(2):
        assert (await provider.ask("/router/remembers", chat("hi", temperature=0)))[0] == 200
    assert provider.called == ["remembers-0", "remembers-1", "remembers-1"]
    _, explained = await provider.ask("/router/remembers/explain", chat("hi", temperature=0.5))
    assert explained["decision"]["candidates"][0]["excludedBecause"].startswith("refused `temperature` ")
    assert (await provider.ask("/router/remembers", chat("hi")))[1]["modelpilot"]["selectedModel"] == "remembers/0"


async def test_where_all_refuse_the_client_learns_why(provider: Provider) -> None:
    """400 with the first one's message, code and parameter, after one call of each."""
    await provider.router("all-refuse", says(400, NAMED), says(422, {"detail": "no"}), says(400, FIXED), fallbacks=1)
    status, answer = await provider.ask("/router/all-refuse", chat("hi", temperature=0))
    error = answer["error"]
    told = {name: error[name] for name in ("message", "type", "code", "param")}
    assert (status, told) == (400, NAMED["error"])
    assert [each["model"] for each in error["attempts"]] == [f"all-refuse/{number}" for number in (0, 2, 1)]


async def test_a_malformed_body_is_told_at_once(provider: Provider) -> None:
    """No other model is asked for what nobody takes."""
    await provider.router("malformed", says(400, MALFORMED), says(200, completion("fine")), fallbacks=1)
    status, answer = await provider.ask("/router/malformed", chat("hi"))
    error = answer["error"]
    assert (status, error["message"], error["param"]) == (400, "the roles do not fit", "messages[0].role")
    assert provider.called == ["malformed-0"]


async def test_a_model_that_the_plan_does_not_include_leaves_the_others(provider: Provider) -> None:
    """A 403 about one model takes that one out of decisions, not what else the provider has."""
    await provider.router("plan", says(403, PLAN), says(200, completion("fine")))
    for _ in range(2):
        assert (await provider.ask("/router/plan", chat("hi")))[0] == 200
    assert provider.called == ["plan-0", "plan-1", "plan-1"]
    _, explained = await provider.ask("/router/plan/explain", chat("hi"))
    reasons = [each["excludedBecause"] for each in explained["decision"]["candidates"]]
    assert reasons[0].startswith("provider refusing refused this model, next try in ")
    assert reasons[1] is None


async def test_too_long_for_every_model(provider: Provider) -> None:
    """400 in the words of each client's own provider."""
    await provider.router("too-long", says(400, TOO_LONG), says(413, {"message": "too large"}))
    status, answer = await provider.ask("/router/too-long", chat("hi"))
    assert (status, answer["error"]["code"], answer["error"]["message"]) == (400, "context_length_exceeded", "too long")
    status, answer = await provider.ask("/v1/messages", chat("hi", model="router/too-long", max_tokens=9))
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert answer["error"]["message"] == "prompt is too long: too long"


async def test_many_refusals_at_once_are_each_answered(provider: Provider) -> None:
    """Calls that go on at the same time share what is remembered, and none is lost."""
    await provider.router("many", takes_no_temperature, says(200, completion("fine")))
    asked = (provider.ask("/router/many", chat(f"hi {number}", temperature=0)) for number in range(20))
    assert {status for status, _ in await asyncio.gather(*asked)} == {200}
