"""Haystack."""

# --- setup
import os

from haystack.components.embedders import OpenAIDocumentEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.utils import Secret

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]


def generator(model, api_key=key, **more):
    return OpenAIChatGenerator(model=model, api_base_url=url, api_key=Secret.from_token(api_key), **more)


def embedder(model):
    return OpenAIDocumentEmbedder(model=model, api_base_url=url, api_key=Secret.from_token(key))


# --- end of setup

import openai
from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from haystack import Document
from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage, ImageContent
from haystack.tools import create_tool_from_function
from pydantic import BaseModel

SAID = [ChatMessage.from_user(SUM)]


class City(BaseModel):
    city: str


class Enough(Exception):
    """Ends a stream."""


def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def get_time(city: str) -> str:
    """The time in a city."""
    return weather(city)


def ask(model, said=SAID, **more):
    return generator(model, **more).run(said)["replies"][0]


def chat(model):
    assert "84" in ask(model).text


def stream(model):
    parts = []
    ask(model, streaming_callback=lambda chunk: parts.append(chunk.content or ""))
    assert "84" in "".join(parts)


def tools(model):
    offered = [create_tool_from_function(get_weather), create_tool_from_function(get_time)]
    agent = Agent(chat_generator=generator(model), tools=offered)
    messages = agent.run([ChatMessage.from_user(question())])["messages"]
    assert [call.tool_name for message in messages for call in message.tool_calls] == list(TOOLS)
    assert messages[-1].text


def structured(model):
    answer = ask(model, [ChatMessage.from_user("A city, please")], generation_kwargs={"response_format": City})
    assert City.model_validate_json(answer.text).city


def image(model):
    picture = ImageContent(base64_image=PIXEL, mime_type="image/png")
    answer = ask(model, [ChatMessage.from_user(content_parts=["What is this?", picture])])
    assert answer.meta["usage"]["prompt_tokens"] > 80


def embeddings(model):
    documents = embedder(model).run([Document(content="a"), Document(content="b")])["documents"]
    assert len(documents[1].embedding) == 256


def unknown_model(model):
    refused(openai.NotFoundError, lambda: ask(model))


def wrong_key(model):
    refused(openai.AuthenticationError, lambda: ask(model, api_key=WRONG_KEY))


def usage(model):
    assert ask(model).meta["usage"]["total_tokens"] > 0
    options = {"stream_options": {"include_usage": True}}
    answer = ask(model, streaming_callback=lambda chunk: None, generation_kwargs=options)
    assert answer.meta["usage"]["total_tokens"] > 0


def cancel(model):
    def leave(chunk):
        if chunk.content:
            raise Enough

    refused(Enough, lambda: ask(model, streaming_callback=leave))


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
