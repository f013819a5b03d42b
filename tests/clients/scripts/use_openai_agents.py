"""OpenAI's Agents SDK, with its default: the Responses API."""

# --- setup
import os

from agents import OpenAIProvider, RunConfig, set_tracing_disabled

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]
set_tracing_disabled(True)  # traces go to OpenAI


def run_config(api_key=key):
    return RunConfig(model_provider=OpenAIProvider(base_url=url, api_key=api_key))


# --- end of setup

import openai
from agents import Agent, Runner, function_tool
from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, run, weather
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel


class City(BaseModel):
    city: str


def agent(model, **more):
    # A name with a slash has a prefix for another provider, unless the provider is asked itself.
    return Agent(name="assistant", model=run_config().model_provider.get_model(model), **more)


async def ask(model, said=SUM, **more):
    return await Runner.run(agent(model, **more), said, run_config=run_config())


async def chat(model):
    assert "84" in (await ask(model)).final_output


async def stream(model):
    running, text = Runner.run_streamed(agent(model), SUM, run_config=run_config()), ""
    async for event in running.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            text += event.data.delta
    assert "84" in text


async def tools(model):
    used = []

    @function_tool
    def get_weather(city: str) -> str:
        used.append("get_weather")
        return weather(city)

    @function_tool
    def get_time(city: str) -> str:
        used.append("get_time")
        return weather(city)

    assert (await ask(model, question(), tools=[get_weather, get_time])).final_output
    assert sorted(used) == sorted(TOOLS)


async def structured(model):
    assert (await ask(model, "A city, please", output_type=City)).final_output.city


async def image(model):
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
    said = [{"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, picture]}]
    assert (await ask(model, said)).context_wrapper.usage.input_tokens > 80


async def refusal(kind, asking):
    try:
        await asking
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")


async def unknown_model(model):
    await refusal(openai.NotFoundError, ask(model))


async def wrong_key(model):
    made = run_config(WRONG_KEY).model_provider.get_model(model)
    await refusal(openai.AuthenticationError, Runner.run(Agent(name="assistant", model=made), SUM))


async def usage(model):
    assert (await ask(model)).context_wrapper.usage.total_tokens > 0
    running = Runner.run_streamed(agent(model), SUM, run_config=run_config())
    async for _ in running.stream_events():
        pass
    assert running.context_wrapper.usage.total_tokens > 0


async def cancel(model):
    running = Runner.run_streamed(agent(model), SUM, run_config=run_config())
    async for event in running.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            running.cancel()


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": "has none", "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
