"""Mirascope, with its provider for servers of OpenAI's format that takes models' names as they are."""

# --- setup
import os

from mirascope import llm

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]
llm.register_provider("together", scope="router/", base_url=url, api_key=key)
# --- end of setup

import base64

from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from pydantic import BaseModel


class City(BaseModel):
    city: str


@llm.tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


@llm.tool
def get_time(city: str) -> str:
    """The time in a city."""
    return weather(city)


def chat(model):
    assert "84" in llm.Model(model).call(SUM).text()


def stream(model):
    assert "84" in "".join(llm.Model(model).stream(SUM).text_stream())


def tools(model):
    first = llm.Model(model).call(question(), tools=[get_weather, get_time])
    assert [call.name for call in first.tool_calls] == list(TOOLS)
    assert first.resume(first.execute_tools()).text()


def structured(model):
    assert llm.Model(model).call("A city, please", format=City).parse().city


def image(model):
    picture = llm.Image.from_bytes(base64.b64decode(PIXEL))
    answer = llm.Model(model).call([llm.messages.user(["What is this?", picture])])
    assert answer.usage.input_tokens > 80


def unknown_model(model):
    refused(llm.NotFoundError, lambda: llm.Model(model).call(SUM))


def wrong_key(model):
    llm.register_provider("together", scope="router/", base_url=url, api_key=WRONG_KEY)
    try:
        refused(llm.AuthenticationError, lambda: llm.Model(model).call(SUM))
    finally:
        llm.register_provider("together", scope="router/", base_url=url, api_key=key)


def usage(model):
    assert llm.Model(model).call(SUM).usage.total_tokens > 0
    answer = llm.Model(model).stream(SUM)
    answer.finish()
    assert answer.usage.total_tokens > 0


def cancel(model):
    for _ in llm.Model(model).stream(SUM).text_stream():
        break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": "has none", "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
