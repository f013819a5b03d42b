"""What an application does with Anthropic's SDK, errors included."""

import asyncio
import json
import time
from typing import Any

import anthropic

from tests.sdk_scenarios.site import (
    CITY,
    IMAGE_TOKENS,
    IMAGE_URL,
    NAMES,
    PIXEL,
    QUESTION,
    Site,
    fresh_name,
    refusal,
    said,
    tools,
    until,
)


def sdk(site: Site) -> anthropic.AsyncAnthropic:
    """The SDK without retries of its own; it sends `x-api-key`."""
    return anthropic.AsyncAnthropic(base_url=site.url, api_key=site.admin_key, max_retries=0)


async def message(site: Site) -> None:
    """A Message parses, with text, stop reason, counts and our object; the system prompt is accepted."""
    async with sdk(site) as client:
        answer: Any = await client.messages.create(
            model="router/demo", max_tokens=200, system="Be brief", messages=said("What is 12 * 7?")
        )
    assert "84" in answer.content[0].text
    assert (answer.type, answer.stop_reason) == ("message", "end_turn")
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0
    described = answer.model_extra["modelpilot"]
    assert described["workflowId"] == f"route/admin/{described['requestId']}"
    assert answer._request_id == described["requestId"]


async def stream(site: Site) -> None:
    """The SDK puts our events together; our object is on `message_delta`."""
    async with (
        sdk(site) as client,
        client.messages.stream(model="router/demo", max_tokens=200, messages=said("What is 12 * 7?")) as stream,
    ):
        events = [event async for event in stream]
        message: Any = await stream.get_final_message()
    assert "84" in message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    ended: Any = next(event for event in events if event.type == "message_delta")
    assert ended.model_extra["modelpilot"]["routerId"] == "demo"


async def tools_round_trip(site: Site) -> None:
    """Parallel calls come out, their results go back in by id, and text comes out."""
    await _round_trip(site, streamed=False)


async def streamed_tools_round_trip(site: Site) -> None:
    """The same with the calls put together by the SDK from deltas."""
    await _round_trip(site, streamed=True)


async def _round_trip(site: Site, *, streamed: bool) -> None:
    messages = said(QUESTION)
    request: dict[str, Any] = {"model": "router/demo", "max_tokens": 300, "messages": messages, "tools": tools()}
    async with sdk(site) as client:
        if streamed:
            async with client.messages.stream(**request) as stream:
                message: Any = await stream.get_final_message()
        else:
            message = await client.messages.create(**request)
        assert message.stop_reason == "tool_use"
        uses = [block for block in message.content if block.type == "tool_use"]
        assert [use.name for use in uses] == list(NAMES)
        assert all("city" in use.input for use in uses)
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": "12"} for use in uses]
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
        answer = await client.messages.create(**request)
    assert answer.stop_reason == "end_turn"
    assert answer.content[0].text


async def vision(site: Site) -> None:
    """Images are passed on, by value and by address."""
    for source in ({"type": "base64", "media_type": "image/png", "data": PIXEL}, {"type": "url", "url": IMAGE_URL}):
        blocks: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
        async with sdk(site) as client:
            answer = await client.messages.create(
                model="router/demo", max_tokens=100, messages=[{"role": "user", "content": blocks}]
            )
        assert answer.usage.input_tokens >= IMAGE_TOKENS


async def structured_output(site: Site) -> None:
    """`output_config` with a schema: it reaches the provider, the answer fits."""
    wanted = {"output_config": {"format": {"type": "json_schema", "schema": CITY}}}
    async with sdk(site) as client:
        answer: Any = await client.messages.create(
            model="router/demo", max_tokens=200, messages=said("A city, please"), extra_body=wanted
        )
    assert list(json.loads(answer.content[0].text)) == ["city"]


async def stop_sequences(site: Site) -> None:
    """Which sequence ended the answer is told where the provider told it, whole and streamed."""
    request: dict[str, Any] = {
        "max_tokens": 200,
        "stop_sequences": ["END"],
        "messages": said("Reply with exactly: one END two"),
    }
    async with sdk(site) as client:
        whole: Any = await client.messages.create(model="router/sdk-claude", **request)
        async with client.messages.stream(model="router/sdk-claude", **request) as stream:
            streamed: Any = await stream.get_final_message()
        silent = await client.messages.create(model="sim/small", **request)
    for answer in (whole, streamed):
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")
        assert answer.content[0].text.strip() == "one"
    assert (silent.stop_reason, silent.stop_sequence) == ("end_turn", None)


async def count_tokens(site: Site) -> None:
    """An estimate that grows with the text, for a router and for a model; an unknown one is a 404."""
    async with sdk(site) as client:
        count = client.messages.count_tokens
        few = await count(model="router/demo", messages=said("Hi"))
        many = await count(model="sim/small", messages=said("Hi " * 1_000), tools=tools(), system="Be brief")
        await refusal(anthropic.NotFoundError, count(model="router/nothing", messages=said("Hi")), 404)
    assert 0 < few.input_tokens < 20
    assert 20 * few.input_tokens < many.input_tokens < 3_000, (few, many)


async def models(site: Site) -> None:
    """What the key may call, in Anthropic's shape: its SDK sends the version by which we know it."""
    async with sdk(site) as client:
        found = {model.id: model async for model in client.models.list()}
        one = await client.models.retrieve("router/demo")
    assert {"router/demo", "sim/small"} <= found.keys()
    assert (one.id, one.type, one.created_at) == ("router/demo", "model", found["router/demo"].created_at)


async def errors_of_the_request(site: Site) -> None:
    """400 to 422 in Anthropic's envelope, which always has the request's id."""
    async with sdk(site) as client:
        x: dict[str, Any] = {"max_tokens": 9, "messages": said("x")}
        search: Any = [{"type": "web_search_20250305", "name": "web_search"}]
        wrong, limited = client.with_options(api_key="wrong"), client.with_options(api_key=site.limited_key)
        ask = client.messages.create
        for kind, asking, status, name in (
            (
                anthropic.BadRequestError,
                client.post("/v1/messages", cast_to=object, content=b"{"),
                400,
                "invalid_request_error",
            ),
            (anthropic.AuthenticationError, wrong.messages.create(model="m", **x), 401, "authentication_error"),
            (
                anthropic.PermissionDeniedError,
                limited.messages.create(model="router/sdk-503", **x),
                403,
                "permission_error",
            ),
            (anthropic.NotFoundError, ask(model="router/nothing", **x), 404, "not_found_error"),
            (
                anthropic.UnprocessableEntityError,  # none of its models has a provider that searches
                ask(model="router/demo", tools=search, **x),
                422,
                "invalid_request_error",
            ),
        ):
            error = await refusal(kind, asking, status)
            body: Any = error.body
            assert (body["type"], body["error"]["type"]) == ("error", name)
            assert body["request_id"] == error.response.headers["x-request-id"]


async def errors_of_names_and_sizes(site: Site) -> None:
    """409 and 413 have exceptions of their own."""
    async with sdk(site) as client:
        name = {"x-request-id": fresh_name()}
        await client.messages.create(model="sim/small", max_tokens=9, messages=said("first"), extra_headers=name)
        other = client.messages.create(model="sim/small", max_tokens=9, messages=said("second"), extra_headers=name)
        await refusal(anthropic.ConflictError, other, 409)
    async with sdk(site).with_options(base_url=site.busy_url) as client:
        large = client.messages.create(model="router/demo", max_tokens=9, messages=said("x" * 1_100_000))
        error = await refusal(anthropic.RequestTooLargeError, large, 413)
    assert error.body["error"]["type"] == "request_too_large"  # type: ignore[index]


async def errors_of_the_provider(site: Site) -> None:
    """502 and 504 after all attempts, a provider's 429 included; what it refuses is what it would be there."""
    async with sdk(site) as client:
        for router, status in (("sdk-503", 502), ("sdk-429", 502), ("sdk-hang", 504)):
            asking = client.messages.create(model=f"router/{router}", max_tokens=9, messages=said("always fails"))
            error = await refusal(anthropic.InternalServerError, asking, status)
            assert len(error.body["error"]["attempts"]) == 1  # type: ignore[index]
        for router, kind in (
            ("sdk-400", anthropic.BadRequestError),
            ("sdk-404", anthropic.NotFoundError),
            ("sdk-filter", anthropic.BadRequestError),
        ):
            await refusal(kind, client.messages.create(model=f"router/{router}", max_tokens=9, messages=said("x")))


async def errors_of_long_prompts(site: Site) -> None:
    """Ours and a provider's begin with the words by which Anthropic's clients know that they must compact."""
    async with sdk(site) as client:
        for model, text in (("sim/small", "word " * 40_000), ("router/sdk-context", "x")):
            asking = client.messages.create(model=model, max_tokens=9, messages=said(text))
            body: Any = (await refusal(anthropic.BadRequestError, asking, 400)).body
            assert body["error"]["type"] == "invalid_request_error"
            assert body["error"]["message"].startswith("prompt is too long")


async def errors_of_streams(site: Site) -> None:
    """A stream that ends in an error raises; it never looks like a short answer."""
    async with sdk(site) as client:
        await refusal(anthropic.APIStatusError, _streamed(client))


async def _streamed(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(
        model="router/sdk-cut", max_tokens=200, messages=said("cut me off too")
    ) as stream:
        await stream.get_final_message()


async def errors_of_limits(site: Site) -> None:
    """429: the SDK repeats as often as it was told to, waits as long as we say, and then raises."""
    async with sdk(site).with_options(base_url=site.limits_url, max_retries=1) as client:
        started_s = time.monotonic()
        asking = client.messages.create(
            model="router/demo", max_tokens=9, messages=said("x"), extra_headers={"x-count": fresh_name()}
        )
        error = await refusal(anthropic.RateLimitError, asking, 429)
    assert time.monotonic() - started_s >= 1.0
    body: Any = error.body
    assert (body["error"]["type"], body["error"]["calls"]) == ("rate_limit_error", 2)


async def errors_of_overload(site: Site) -> None:
    """503: a gateway that is full says when to come back, and the SDK's own retries get the answer then."""
    async with sdk(site).with_options(base_url=site.busy_url) as client:
        name = fresh_name()
        ask = client.messages.create
        slow = asyncio.create_task(
            ask(
                model="router/sdk-slow",
                max_tokens=9,
                messages=said(f"slow {name}"),
                extra_headers={"x-request-id": name},
            )
        )
        await until(lambda: _is_running(client, name))
        full = ask(model="sim/small", max_tokens=9, messages=said("x"))
        error = await refusal(anthropic.InternalServerError, full, 503)
        assert error.response.headers["retry-after"] == "1"
        assert error.body["error"]["type"] == "overloaded_error"  # type: ignore[index]
        patient = client.with_options(max_retries=10)
        answer: Any = await patient.messages.create(model="sim/small", max_tokens=9, messages=said("patient"))
        assert answer.content[0].text
        await slow


async def _is_running(client: anthropic.AsyncAnthropic, name: str) -> bool:
    try:
        await client.get(f"/v1/requests/{name}", cast_to=object)
    except anthropic.NotFoundError:
        return False
    return True


SCENARIOS = (
    message,
    stream,
    tools_round_trip,
    streamed_tools_round_trip,
    vision,
    structured_output,
    stop_sequences,
    count_tokens,
    models,
    errors_of_the_request,
    errors_of_names_and_sizes,
    errors_of_the_provider,
    errors_of_long_prompts,
    errors_of_streams,
    errors_of_limits,
    errors_of_overload,
)
