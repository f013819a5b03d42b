"""Each of our errors is the exception that OpenAI's SDK has for it, and the SDK repeats what it may and no more."""

import asyncio
import time
from typing import Any

import openai

from tests.sdk_scenarios.openai_scenarios import sdk
from tests.sdk_scenarios.site import Site, fresh_name, refusal, said, until


async def of_the_request(site: Site) -> None:
    """400 to 422: the client's own mistakes, with our code and the field, in the classes that clients catch."""
    async with sdk(site) as client:
        ask = client.chat.completions.create
        wrong, limited = client.with_options(api_key="wrong"), client.with_options(api_key=site.limited_key)
        demo: dict[str, Any] = {"model": "router/demo", "messages": said("x")}
        await refusal(openai.BadRequestError, client.post("/chat/completions", cast_to=object, content=b"{"), 400)
        await refusal(openai.AuthenticationError, wrong.chat.completions.create(**demo), 401)
        forbidden = limited.chat.completions.create(model="router/sdk-503", messages=said("x"))
        await refusal(openai.PermissionDeniedError, forbidden, 403)
        for model in ("router/nothing", "nothing"):
            await refusal(openai.NotFoundError, ask(model=model, messages=said("x")), 404)
        hot = await refusal(openai.BadRequestError, ask(**demo, temperature=9), 400)
        assert (hot.param, hot.code) == ("temperature", "invalid_request")
        long = ask(model="sim/small", messages=said("word " * 40_000))
        assert (await refusal(openai.BadRequestError, long, 400)).code == "context_length_exceeded"
        unable = ask(model="sim/embed", messages=said("x"))
        assert (await refusal(openai.UnprocessableEntityError, unable, 422)).code == "no_candidate"


async def of_names(site: Site) -> None:
    """409: the client's own name of one request is used for another."""
    async with sdk(site) as client:
        ask, name = client.chat.completions.create, {"x-request-id": fresh_name()}
        await ask(model="sim/small", messages=said("first"), extra_headers=name)
        other = ask(model="sim/small", messages=said("second"), extra_headers=name)
        error = await refusal(openai.ConflictError, other, 409)
    assert (error.param, error.response.headers["x-should-retry"]) == ("x-request-id", "false")


async def of_large_bodies(site: Site) -> None:
    """413 has no exception of its own; it is not repeated."""
    async with sdk(site).with_options(base_url=f"{site.busy_url}/v1") as client:
        ask = client.chat.completions.create(model="router/demo", messages=said("x" * 1_100_000))
        error = await refusal(openai.APIStatusError, ask, 413)
    assert error.code == "payload_too_large"


async def of_the_provider(site: Site) -> None:
    """502 and 504 after all attempts, a provider's 429 included; what it refuses is what it would be there."""
    async with sdk(site) as client:
        ask = client.chat.completions.create
        for router, status, code in (
            ("sdk-503", 502, "provider_failed"),
            ("sdk-429", 502, "provider_failed"),
            ("sdk-hang", 504, "provider_timeout"),
        ):
            asking = ask(model=f"router/{router}", messages=said("always fails"))
            error = await refusal(openai.InternalServerError, asking, status)
            assert error.code == code
            assert len(error.body["attempts"]) == 1  # type: ignore[index]
            assert ("retry-after" in error.response.headers) == (router == "sdk-429")
        for router, kind, status, code in (
            ("sdk-400", openai.BadRequestError, 400, "provider_rejected"),
            ("sdk-404", openai.NotFoundError, 404, "model_not_found"),
            ("sdk-filter", openai.BadRequestError, 400, "content_filter"),
            ("sdk-context", openai.BadRequestError, 400, "context_length_exceeded"),
        ):
            refused = await refusal(kind, ask(model=f"router/{router}", messages=said("refused")), status)
            assert refused.code == code
            assert refused.response.headers["x-should-retry"] == "false"


async def of_embeddings(site: Site) -> None:
    """A chat model is no embeddings model; an unknown one is a 404; a provider's failure is a 502."""
    async with sdk(site) as client:
        embed = client.embeddings.create
        chat_model = await refusal(openai.BadRequestError, embed(model="sim/small", input="x"))
        assert chat_model.param == "model"
        await refusal(openai.NotFoundError, embed(model="sim/nothing", input="x"))
        await refusal(openai.BadRequestError, embed(model="sim/embed", input=[]), 400)
        await refusal(openai.InternalServerError, embed(model="own/sdk-embed-503", input="x"), 502)


async def of_streams(site: Site) -> None:
    """A stream that ends in an error raises; it never looks like a short answer."""
    async with sdk(site) as client:
        stream = await client.chat.completions.create(model="router/sdk-cut", messages=said("cut me off"), stream=True)
        await refusal(openai.APIError, _read(stream))


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


async def of_limits(site: Site) -> None:
    """429: the SDK repeats as often as it was told to, waits as long as we say, and then raises."""
    async with sdk(site).with_options(base_url=f"{site.limits_url}/v1", max_retries=1) as client:
        started_s = time.monotonic()
        asking = client.chat.completions.create(
            model="router/demo", messages=said("x"), extra_headers={"x-count": fresh_name()}
        )
        error = await refusal(openai.RateLimitError, asking, 429)
    assert time.monotonic() - started_s >= 1.0
    assert (error.code, error.response.headers["retry-after"]) == ("rate_limit_exceeded", "1")
    assert error.body["calls"] == 2  # type: ignore[index]


async def of_overload(site: Site) -> None:
    """503: a gateway that is full says when to come back, and the SDK's own retries get the answer then."""
    async with sdk(site).with_options(base_url=f"{site.busy_url}/v1") as client:
        name = fresh_name()
        ask = client.chat.completions.create
        slow = asyncio.create_task(
            ask(model="router/sdk-slow", messages=said(f"slow {name}"), extra_headers={"x-request-id": name})
        )
        await until(lambda: _is_running(client, name))
        error = await refusal(openai.InternalServerError, ask(model="sim/small", messages=said("x")), 503)
        assert (error.code, error.response.headers["retry-after"]) == ("overloaded", "1")
        patient = client.with_options(max_retries=10)
        answer = await patient.chat.completions.create(model="sim/small", messages=said("patient"))
        assert answer.choices[0].message.content
        await slow


async def _is_running(client: openai.AsyncOpenAI, name: str) -> bool:
    try:
        await client.get(f"/requests/{name}", cast_to=object)
    except openai.NotFoundError:
        return False
    return True


SCENARIOS = (
    of_the_request,
    of_names,
    of_large_bodies,
    of_the_provider,
    of_embeddings,
    of_streams,
    of_limits,
    of_overload,
)
