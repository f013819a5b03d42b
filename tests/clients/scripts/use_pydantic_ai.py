"""Pydantic AI, with its models for OpenAI's chat completions and for Anthropic's format."""

# --- setup
import os

from anthropic import AsyncAnthropic
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

url, key = os.environ["MODELPILOT_API_URL"], os.environ["MODELPILOT_API_KEY"]


def openai_model(model, api_key=key):
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=url + "/v1", api_key=api_key))


def anthropic_model(model, api_key=key):
    client = AsyncAnthropic(base_url=url, api_key=api_key)
    return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client))


# --- end of setup

import base64

from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, run, weather
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError

BOTH = (openai_model, anthropic_model)


class City(BaseModel):
    city: str


USED = []


def get_weather(city: str) -> str:
    """The weather of a city."""
    USED.append("get_weather")
    return weather(city)


def get_time(city: str) -> str:
    """The time in a city."""
    USED.append("get_time")
    return weather(city)


async def chat(model):
    for made in BOTH:
        assert "84" in (await Agent(made(model)).run(SUM)).output


async def stream(model):
    for made in BOTH:
        async with Agent(made(model)).run_stream(SUM) as answer:
            assert "84" in "".join([text async for text in answer.stream_text(delta=True)])


async def tools(model):
    for made in BOTH:
        USED.clear()
        agent = Agent(made(model), tools=[get_weather, get_time])
        assert (await agent.run(question())).output
        assert sorted(USED) == sorted(TOOLS)


async def structured(model):
    for made in BOTH:
        assert (await Agent(made(model), output_type=City).run("A city, please")).output.city


async def image(model):
    picture = BinaryContent(base64.b64decode(PIXEL), media_type="image/png")
    for made in BOTH:
        assert (await Agent(made(model)).run(["What is this?", picture])).usage.input_tokens > 80


async def embeddings(model):
    embedder = Embedder(OpenAIEmbeddingModel(model, provider=OpenAIProvider(base_url=url + "/v1", api_key=key)))
    assert len((await embedder.embed_documents(["a", "b"])).embeddings[1]) == 256


async def refusal(model, status):
    try:
        await Agent(model).run(SUM)
    except ModelHTTPError as error:
        assert error.status_code == status
    else:
        raise AssertionError("no ModelHTTPError was raised")


async def unknown_model(model):
    for made in BOTH:
        await refusal(made(model), 404)


async def wrong_key(model):
    for made in BOTH:
        await refusal(made(model, WRONG_KEY), 401)


async def usage(model):
    for made in BOTH:
        assert (await Agent(made(model)).run(SUM)).usage.total_tokens > 0
        async with Agent(made(model)).run_stream(SUM) as answer:
            await answer.get_output()
            assert answer.usage.total_tokens > 0


async def cancel(model):
    async with Agent(openai_model(model)).run_stream(SUM) as answer:
        async for _ in answer.stream_text(delta=True):
            break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
