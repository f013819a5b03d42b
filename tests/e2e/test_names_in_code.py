"""Programs with names of their own in them: models, fallbacks, users and metadata as other gateways take them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from tests.support.requests import ask, chat, ended, put_model, put_router
from tests.support.world import Gateway, World, eventually

GOOD, BROKEN, EMBED = "named/good", "named/broken", "named/embed"


@pytest.fixture
async def named(client: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """A good model and one whose provider fails for ever, both of a router that goes by several names."""
    await put_model(client, GOOD, "small+latency1", aliases=["my-model"])
    await put_model(client, BROKEN, "broken+latency1+fail400")
    await put_model(client, EMBED, "embed", capabilities=["embeddings"], aliases=["text-embedding-3-small"])
    await put_router(client, "named", [GOOD, EMBED], aliases=["gpt-4o", "anthropic/*", "claude-*", "gemini-*"])
    return client


@pytest.fixture
async def sdk(world: World, gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The stock SDK with nothing but base URL and key changed."""
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=world.admin_key, max_retries=0) as made:
        yield made


async def posted(client: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a body that must be taken."""
    async with client.post(path, json=body) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def test_an_unchanged_program_runs_through_a_router(
    named: aiohttp.ClientSession, sdk: openai.AsyncOpenAI
) -> None:
    """It asks for `gpt-4o`; the answer names the model of the catalogue that gave it."""
    answer = await sdk.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "What is 2 + 3?"}])
    assert answer.model == GOOD
    assert answer.model_extra is not None
    assert answer.model_extra["modelpilot"]["routerId"] == "named"
    listed = await sdk.models.retrieve("gpt-4o")
    assert listed.id == "router/named"
    assert "named" in {entry.id.removeprefix("router/") async for entry in sdk.models.list()}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/messages",
            {"model": "claude-sonnet-4-5", "max_tokens": 20, "messages": [{"role": "user", "content": "x"}]},
        ),
        ("/v1/messages/count_tokens", {"model": "claude-x", "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/responses", {"model": "gpt-4o", "input": "x"}),
        ("/v1/completions", {"model": "gpt-4o", "prompt": "x"}),
        ("/v1beta/models/gemini-2.5-pro:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}),
        (
            "/v1/chat/completions",
            {"model": "anthropic/claude-opus-4-5", "messages": [{"role": "user", "content": "x"}]},
        ),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}),
    ],
)
async def test_every_format_knows_the_names(named: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    """Also where the shared catalogue has a model of that name, which nobody has a key for."""
    assert (await posted(named, path, body)).keys() & {"modelpilot", "input_tokens"}


async def test_an_unknown_name_says_what_would_make_it_known(named: aiohttp.ClientSession) -> None:
    """A 404, as SDKs expect it."""
    async with named.post("/v1/chat/completions", json={"model": "gpt-7", **chat("x")}) as response:
        assert response.status == 404
        assert "alias" in (await response.json())["error"]["message"]


@pytest.mark.parametrize("said", [{"models": [BROKEN, "my-model"]}, {"model": BROKEN, "fallbacks": ["my-model"]}])
async def test_models_stand_in_for_each_other(named: aiohttp.ClientSession, said: dict[str, Any]) -> None:
    """OpenRouter's `models` and LiteLLM's `fallbacks`, aliases included; both calls are shown."""
    answer = await posted(named, "/v1/chat/completions", {**chat("x"), **said})
    assert [(each["model"], each["status"]) for each in answer["modelpilot"]["attempts"]] == [
        (BROKEN, "error"),
        (GOOD, "ok"),
    ]


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ({"model": "router/named", "models": [BROKEN]}, 400, "router named has no 'named/broken'"),
        ({"model": GOOD, "models": ["router/named"]}, 400, "a router cannot stand in for a model"),
        ({"model": GOOD, "models": ["nobody's"]}, 400, "the catalogue has no 'nobody's'"),
        ({"model": GOOD, "provider": {"only": ["groq"]}}, 422, "provider.only does not name simulator"),
        ({"model": GOOD, "provider": {"zdr": True}}, 422, "only OpenRouter can follow this"),
        ({"model": GOOD, "provider": {"order": "groq"}}, 400, "provider.order"),
        ({"model": GOOD, "route": "somehow"}, 400, "route"),
    ],
)
async def test_what_cannot_be_done_is_said(
    named: aiohttp.ClientSession, said: dict[str, Any], status: int, words: str
) -> None:
    """Never silently ignored."""
    async with named.post("/v1/chat/completions", json={**chat("x"), **said}) as response:
        answer = await response.json()
        assert (response.status, words in str(answer)) == (status, True), answer


async def test_who_asked_is_recorded(named: aiohttp.ClientSession) -> None:
    """`user`, `metadata` and our own tags, under the id that the answer itself has."""
    body = chat("x", user="u-17", metadata={"team": "blue"}, modelpilot={"tags": {"customer": "acme"}})
    _, answer = await ask(named, "named", body)
    view = await eventually(lambda: ended(named, answer["id"]), "the request does not end")
    assert (view["userId"], view["tags"]) == ("u-17", {"customer": "acme", "team": "blue"})
    assert (view["answer"]["id"], view["answer"]["model"]) == (answer["id"], GOOD)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/v1/chat/completions", {"model": GOOD, **chat("x")}, {"safety_identifier": "u-1", "metadata": {"a": "b"}}),
        ("/v1/completions", {"model": GOOD, "prompt": "x"}, {"user": "u-1", "metadata": {"a": "b"}}),
        ("/v1/responses", {"model": GOOD, "input": "x"}, {"user": "u-1", "metadata": {"a": "b"}}),
        (
            "/v1/messages",
            {"model": GOOD, "max_tokens": 20, "messages": [{"role": "user", "content": "x"}]},
            {"metadata": {"user_id": "u-1"}},
        ),
        (
            f"/v1beta/models/{GOOD}:generateContent",
            {"contents": [{"parts": [{"text": "x"}]}]},
            {"labels": {"a": "b"}},
        ),
        (f"/v1beta/models/{EMBED}:embedContent", {"content": {"parts": [{"text": "x"}]}}, {}),
        ("/v1/embeddings", {"model": EMBED, "input": "x"}, {"user": "u-1", "metadata": {"a": "b"}}),
    ],
)
async def test_every_format_says_whose_spend_it_is(
    named: aiohttp.ClientSession, path: str, body: dict[str, Any], said: dict[str, Any]
) -> None:
    """In its own words, and in ours."""
    own = {"tags": {"customer": "acme"}, "sessionId": "s-1"}
    answer = await posted(named, path, {**body, **said, "modelpilot": own})
    request_id = answer["modelpilot"]["requestId"]
    view = await eventually(lambda: ended(named, request_id), "the request does not end")
    other_words = {"a": "b"} if {"a": "b"} in said.values() else {}
    assert (view["sessionId"], view["tags"]) == ("s-1", {"customer": "acme", **other_words})
    by_name = "user" in said or "safety_identifier" in said or "user_id" in said.get("metadata", {})
    assert view["userId"] == ("u-1" if by_name else None)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat("x")),
        ("/v1/messages", {"max_tokens": 20, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/completions", {"prompt": "x"}),
    ],
)
async def test_feedback_takes_the_answers_own_id(named: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    """chatcmpl-, msg_, resp_ and cmpl-: what a program has at hand; and `usage` says what the answer cost."""
    answer = await posted(named, path, {"model": "gpt-4o", **body})
    assert answer["usage"]["cost"] == answer["modelpilot"]["costUsd"] > 0.0

    async def rated() -> bool:
        async with named.post("/v1/feedback", json={"requestId": answer["id"], "score": 1.0}) as response:
            return response.status == 200

    await eventually(rated, "the answer cannot be rated")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**chat("x"), "stream_options": {"include_usage": True}}),
        ("/v1/messages", {"max_tokens": 20, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/completions", {"prompt": "x", "stream_options": {"include_usage": True}}),
    ],
)
async def test_streams_end_with_their_cost(named: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    """In `usage`, where OpenRouter's clients look for it."""
    async with named.post(path, json={"model": "gpt-4o", "stream": True, **body}) as response:
        text = await response.text()
    assert '"cost":' in text, text
    assert f'"model":"{GOOD}"' in text
    assert '"model":"small+latency1"' not in text


async def test_embeddings_are_rows_like_all_others(named: aiohttp.ClientSession) -> None:
    """Recorded, priced, attributed, and found by their id."""
    asked = {"model": EMBED, "input": ["one two", "three"], "user": "u-1", "metadata": {"team": "blue"}}
    answer = await posted(named, "/v1/embeddings", asked)
    described = answer["modelpilot"]
    assert answer["usage"]["cost"] == described["costUsd"] == pytest.approx(3e-6)
    view = await ended(named, described["requestId"])
    assert view is not None
    assert (view["status"], view["purpose"], view["userId"], view["tags"]) == (
        "completed", "embedding", "u-1", {"team": "blue"},
    )  # fmt: skip
    assert (view["costUsd"], view["tokens"]["input"]) == (described["costUsd"], 3)


async def test_failed_embeddings_are_rows_too(named: aiohttp.ClientSession) -> None:
    """With their attempts, under the id that the error names."""
    await put_model(named, "named/broken-embed", "broken-embed+fail500", capabilities=["embeddings"])
    async with named.post("/v1/embeddings", json={"model": "named/broken-embed", "input": "x"}) as response:
        assert response.status == 502
        error = (await response.json())["error"]
    view = await ended(named, error["requestId"])
    assert view is not None
    assert (view["status"], len(view["attempts"]) >= 1, view["costUsd"]) == ("failed", True, 0.0)


async def test_a_key_for_routers_embeds_where_its_router_says_so(
    named: aiohttp.ClientSession, gateway: Gateway
) -> None:
    """By the router itself, or by a model that it names; nothing else."""
    async with named.post("/api/keys", json={"allowedRouters": ["named"]}) as response:
        key = (await response.json())["key"]
    async with aiohttp.ClientSession(gateway.url, headers={"authorization": f"Bearer {key}"}) as limited:
        for model in ("router/named", EMBED, "text-embedding-3-small", "gpt-4o"):
            answer = await posted(limited, "/v1/embeddings", {"model": model, "input": "x"})
            assert (answer["modelpilot"]["selectedModel"], answer["modelpilot"]["routerId"]) == (EMBED, "named")
        async with limited.post("/v1/embeddings", json={"model": "sim/embed", "input": "x"}) as response:
            assert response.status == 403
        async with limited.post("/v1/chat/completions", json={"model": "my-model", **chat("x")}) as response:
            assert response.status == 403
        assert (await posted(limited, "/v1/chat/completions", {"model": "gpt-4o", **chat("x")}))["model"] == GOOD


async def test_an_alias_counts_as_soon_as_it_is_given(named: aiohttp.ClientSession) -> None:
    """And no longer than its router has it."""
    body = {"model": "brand-new", **chat("x")}
    for aliases, status in (([], 404), (["brand-new"], 200), ([], 404)):
        await put_router(named, "renamed", [GOOD], aliases=aliases)

        async def answered(status: int = status) -> bool:
            async with named.post("/v1/chat/completions", json=body) as response:
                return response.status == status

        await asyncio.wait_for(eventually(answered, f"no {status}"), 10.0)
