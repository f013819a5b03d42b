"""LlamaIndex, with its integration for servers that speak OpenAI's format."""

# --- setup
import os

from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]


def llm(model, api_key=key):
    chat = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 128_000}
    return OpenAILike(model=model, api_base=url, api_key=api_key, **chat)


def embedder(model):
    return OpenAILikeEmbedding(model_name=model, api_base=url, api_key=key)


# --- end of setup

import openai
from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

SAID = [ChatMessage(role="user", content=SUM)]


class City(BaseModel):
    """A city."""

    city: str


def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def get_time(city: str) -> str:
    """The time in a city."""
    return weather(city)


def chat(model):
    assert "84" in llm(model).chat(SAID).message.content


def stream(model):
    assert "84" in "".join(chunk.delta or "" for chunk in llm(model).stream_chat(SAID))


def tools(model):
    asked, offered = llm(model), [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]
    messages = [ChatMessage(role="user", content=question())]
    answer = asked.chat_with_tools(offered, chat_history=messages, allow_parallel_tool_calls=True)
    calls = asked.get_tool_calls_from_response(answer)
    assert [call.tool_name for call in calls] == list(TOOLS)
    messages.append(answer.message)
    for call in calls:
        extra = {"tool_call_id": call.tool_id}
        messages.append(ChatMessage(role="tool", content=weather(call.tool_kwargs["city"]), additional_kwargs=extra))
    assert asked.chat_with_tools(offered, chat_history=messages).message.content


def structured(model):
    answer = llm(model).as_structured_llm(City).chat([ChatMessage(role="user", content="A city, please")])
    assert answer.raw.city


def image(model):
    blocks = [TextBlock(text="What is this?"), ImageBlock(url=f"data:image/png;base64,{PIXEL}")]
    answer = llm(model).chat([ChatMessage(role="user", blocks=blocks)])
    assert answer.raw.usage.prompt_tokens > 80


def embeddings(model):
    assert len(embedder(model).get_text_embedding_batch(["a", "b"])[1]) == 256


def unknown_model(model):
    refused(openai.NotFoundError, lambda: llm(model).chat(SAID))


def wrong_key(model):
    refused(openai.AuthenticationError, lambda: llm(model, WRONG_KEY).chat(SAID))


def usage(model):
    assert llm(model).chat(SAID).additional_kwargs["total_tokens"] > 0


def cancel(model):
    for chunk in llm(model).stream_chat(SAID):
        if chunk.delta:
            break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
