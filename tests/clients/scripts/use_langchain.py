"""LangChain for Python, with the chat models for OpenAI's and for Anthropic's format."""

# --- setup
import os

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

url, key = os.environ["MODELPILOT_API_URL"], os.environ["MODELPILOT_API_KEY"]


def chat_openai(model, api_key=key):
    # LangChain asks for the usage of streams only at OpenAI itself, unless it is told to.
    return ChatOpenAI(model=model, base_url=url + "/v1", api_key=api_key, stream_usage=True)


def chat_anthropic(model, api_key=key):
    return ChatAnthropic(model=model, base_url=url, api_key=api_key)


def embedder(model):
    return OpenAIEmbeddings(model=model, base_url=url + "/v1", api_key=key, check_embedding_ctx_length=False)


# --- end of setup

import anthropic
import openai
from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

BOTH = (chat_openai, chat_anthropic)


class City(BaseModel):
    """A city."""

    city: str


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


@tool
def get_time(city: str) -> str:
    """The time in a city."""
    return weather(city)


def chat(model):
    for made in BOTH:
        assert "84" in made(model).invoke(SUM).text


def stream(model):
    for made in BOTH:
        assert "84" in "".join(chunk.text for chunk in made(model).stream(SUM))


def tools(model):
    for made in BOTH:
        asked = made(model).bind_tools([get_weather, get_time])
        messages = [HumanMessage(question())]
        answer = asked.invoke(messages)
        assert [call["name"] for call in answer.tool_calls] == list(TOOLS)
        messages.append(answer)
        for call in answer.tool_calls:
            used = get_weather if call["name"] == "get_weather" else get_time
            messages.append(ToolMessage(used.invoke(call["args"]), tool_call_id=call["id"]))
        assert asked.invoke(messages).text


def structured(model):
    for made in BOTH:
        assert made(model).with_structured_output(City).invoke("A city, please").city


def image(model):
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
    ]
    for made in BOTH:
        assert made(model).invoke([HumanMessage(content)]).usage_metadata["input_tokens"] > 80


def embeddings(model):
    assert len(embedder(model).embed_documents(["a", "b"])[1]) == 256


def unknown_model(model):
    refused(openai.NotFoundError, lambda: chat_openai(model).invoke(SUM))
    refused(anthropic.NotFoundError, lambda: chat_anthropic(model).invoke(SUM))


def wrong_key(model):
    refused(openai.AuthenticationError, lambda: chat_openai(model, WRONG_KEY).invoke(SUM))
    refused(anthropic.AuthenticationError, lambda: chat_anthropic(model, WRONG_KEY).invoke(SUM))


def usage(model):
    for made in BOTH:
        assert made(model).invoke(SUM).usage_metadata["total_tokens"] > 0
        *_, last = [chunk.usage_metadata for chunk in made(model).stream(SUM) if chunk.usage_metadata]
        assert last["output_tokens"] > 0


def cancel(model):
    for made in BOTH:
        for chunk in made(model).stream(SUM):
            if chunk.text:
                break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
