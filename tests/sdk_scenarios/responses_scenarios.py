"""What an application does with OpenAI's SDK and the Responses API."""

import json
from typing import Any

import openai

from tests.sdk_scenarios.openai_scenarios import City, sdk
from tests.sdk_scenarios.site import CITY, IMAGE_TOKENS, NAMES, PIXEL, QUESTION, Site, refusal

TOOLS: Any = [{"type": "function", "name": name, "parameters": CITY, "strict": True} for name in NAMES]


async def response(site: Site) -> None:
    """A Response parses, with text, counts and our object; it can be read again, and feedback takes its id."""
    async with sdk(site) as client:
        answer: Any = await client.responses.create(
            model="router/demo", instructions="Be brief", input="What is 12 * 7?", metadata={"a": "b"}
        )
        again: Any = await client.responses.retrieve(answer.id)
        rated: Any = await client.post("/feedback", cast_to=object, body={"requestId": answer.id, "score": 1.0})
        found: Any = await client.get(f"/requests/{answer.id}", cast_to=object)
    assert "84" in answer.output_text
    assert (answer.status, answer.instructions, answer.metadata) == ("completed", "Be brief", {"a": "b"})
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0
    assert (again.output, again.usage, again.created_at) == (answer.output, answer.usage, answer.created_at)
    described = answer.model_extra["modelpilot"]
    assert answer.id == f"resp_{described['requestId']}"
    assert rated["requestId"] == found["requestId"] == described["requestId"]


async def stream(site: Site) -> None:
    """The SDK puts our events together; the last one has our object."""
    async with (
        sdk(site) as client,
        client.responses.stream(model="router/demo", input="What is 12 * 7?") as stream,
    ):
        events = [event async for event in stream]
        answer: Any = await stream.get_final_response()
    assert "84" in answer.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert answer.model_extra["modelpilot"]["routerId"] == "demo"


async def round_trips(site: Site) -> None:
    """Parallel calls and their results: from a stored response, from the items themselves, and from their names."""
    async with sdk(site) as client:
        ask: dict[str, Any] = {"model": "router/demo", "tools": TOOLS}
        for streamed in (False, True):
            first: Any = await _answer(client, streamed, input=QUESTION, **ask)
            calls = [item for item in first.output if item.type == "function_call"]
            assert [call.name for call in calls] == list(NAMES)
            assert all("city" in json.loads(call.arguments) for call in calls)
            results = [{"type": "function_call_output", "call_id": call.call_id, "output": "12"} for call in calls]
            stateless = [{"role": "user", "content": QUESTION}, *first.output, *results]
            named = [{"role": "user", "content": QUESTION}, *(_named(item) for item in first.output), *results]
            for given in ({"previous_response_id": first.id, "input": results}, {"input": stateless}, {"input": named}):
                second: Any = await _answer(client, streamed, **given, **ask)
                assert second.output_text
                assert second.usage.input_tokens > first.usage.input_tokens


def _named(item: Any) -> dict[str, str]:
    return {"type": "item_reference", "id": item.id}


async def _answer(client: openai.AsyncOpenAI, streamed: bool, **given: Any) -> Any:
    if not streamed:
        return await client.responses.create(**given)
    async with client.responses.stream(**given) as stream:
        return await stream.get_final_response()


async def structured_output(site: Site) -> None:
    """A parsed object, and JSON mode."""
    async with sdk(site) as client:
        parsed = await client.responses.parse(model="router/demo", input="A city, please", text_format=City)
        plain = await client.responses.create(
            model="router/demo", input="JSON, please", text={"format": {"type": "json_object"}}
        )
    assert parsed.output_parsed is not None
    assert parsed.output_parsed.city
    assert isinstance(json.loads(plain.output_text), dict)


async def vision(site: Site) -> None:
    """Images are passed on."""
    parts: Any = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
    ]
    async with sdk(site) as client:
        answer: Any = await client.responses.create(model="router/demo", input=[{"role": "user", "content": parts}])
    assert answer.usage.input_tokens >= IMAGE_TOKENS


async def truncation(site: Site) -> None:
    """A truncated answer is incomplete and says why."""
    async with sdk(site) as client:
        answer: Any = await client.responses.create(model="sim/small", input="Tell a story", max_output_tokens=3)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def stored(site: Site) -> None:
    """Input items are listed with those of the turns before; deleted means gone, and so does `store: false`."""
    async with sdk(site) as client:
        ask = client.responses.create
        first = await ask(model="sim/small", input="Name a river")
        second = await ask(model="sim/small", input="And a lake", previous_response_id=first.id)
        items: list[Any] = [item async for item in client.responses.input_items.list(second.id, order="asc", limit=2)]
        assert [item.role for item in items] == ["user", "assistant", "user"]
        assert items[1].content[0].text == first.output_text
        await client.responses.delete(first.id)
        unkept: Any = await ask(model="sim/small", input="x", store=False)
        assert unkept.model_extra["store"] is False
        for name in (first.id, unkept.id, "resp_nothing", "msg_nothing"):
            await refusal(openai.NotFoundError, client.responses.retrieve(name), 404)
            asking = ask(model="sim/small", input="x", previous_response_id=name)
            error = await refusal(openai.BadRequestError, asking, 400)
            assert (error.code, error.param) == ("previous_response_not_found", "previous_response_id")
        await refusal(openai.BadRequestError, client.responses.cancel(second.id), 400)


async def errors_of_the_request(site: Site) -> None:
    """Bad bodies are 400 and name the field; what only OpenAI has is among them; rights and names as everywhere."""
    async with sdk(site) as client:
        ask = client.responses.create
        hosted: Any = [{"type": "file_search", "vector_store_ids": ["vs_1"]}]
        for param, given in (
            ("tools[0].type", {"tools": hosted}),
            ("background", {"background": True}),
            ("temperature", {"temperature": 9}),
            ("input[0].id", {"input": [{"type": "item_reference", "id": "msg_other"}]}),
        ):
            bad: Any = {"model": "router/demo", "input": "x", **given}
            error = await refusal(openai.BadRequestError, ask(**bad), 400)
            assert error.param == param
        await refusal(openai.NotFoundError, ask(model="router/nothing", input="x"), 404)
        limited = client.with_options(api_key=site.limited_key)
        await refusal(openai.PermissionDeniedError, limited.responses.create(model="router/sdk-503", input="x"), 403)
        other = await ask(model="sim/small", input="x")
        chained = limited.responses.create(model="router/demo", input="x", previous_response_id=other.id)
        await refusal(openai.PermissionDeniedError, chained, 403)


async def errors_of_the_provider(site: Site) -> None:
    """502 and 504 after all attempts; a stream that ends in an error raises and never looks like a short answer."""
    async with sdk(site) as client:
        for router, status in (("sdk-503", 502), ("sdk-hang", 504)):
            asking = client.responses.create(model=f"router/{router}", input="always fails")
            await refusal(openai.InternalServerError, asking, status)
        await refusal(openai.APIError, _answer(client, True, model="router/sdk-cut", input="cut me off"))


SCENARIOS = (
    response,
    stream,
    round_trips,
    structured_output,
    vision,
    truncation,
    stored,
    errors_of_the_request,
    errors_of_the_provider,
)
