"""smolagents."""

# --- setup
import os

from smolagents import OpenAIModel

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]


def made(model, api_key=key):
    return OpenAIModel(model_id=model, api_base=url, api_key=api_key)


# --- end of setup

import openai
from features import CITY, PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from smolagents import ToolCallingAgent, tool
from smolagents.models import ChatMessage, MessageRole

SAID = [ChatMessage(role=MessageRole.USER, content=[{"type": "text", "text": SUM}])]


@tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    USED.append("get_weather")
    return weather(city)


@tool
def get_time(city: str) -> str:
    """The time in a city.

    Args:
        city: its name
    """
    USED.append("get_time")
    return weather(city)


USED = []


def chat(model):
    assert "84" in made(model).generate(SAID).content


def stream(model):
    assert "84" in "".join(delta.content or "" for delta in made(model).generate_stream(SAID))


def tools(model):
    USED.clear()
    agent = ToolCallingAgent([get_weather, get_time], made(model), max_steps=2, verbosity_level=0)
    assert agent.run(question())
    assert set(TOOLS) <= set(USED)
    # It tells calls and results as text, so that every step is another prompt; the same one again is the second turn.
    assert agent.model.generate(agent.write_memory_to_messages())
    assert agent.model.generate(agent.write_memory_to_messages())


def structured(model):
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    assert "city" in made(model).generate(SAID, response_format=schema).content


def image(model):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    answer = made(model).generate([ChatMessage(role=MessageRole.USER, content=content)])
    assert answer.token_usage.input_tokens > 80


def unknown_model(model):
    refused(openai.NotFoundError, lambda: made(model).generate(SAID))


def wrong_key(model):
    refused(openai.AuthenticationError, lambda: made(model, WRONG_KEY).generate(SAID))


def usage(model):
    assert made(model).generate(SAID).token_usage.total_tokens > 0
    counted = [delta.token_usage for delta in made(model).generate_stream(SAID) if delta.token_usage]
    assert counted[-1].output_tokens > 0


def cancel(model):
    for delta in made(model).generate_stream(SAID):
        if delta.content:
            break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": "has none", "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
