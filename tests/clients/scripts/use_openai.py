"""OpenAI's SDK for Python."""

# --- setup
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["MODELPILOT_API_URL"] + "/v1", api_key=os.environ["MODELPILOT_API_KEY"])
# --- end of setup

import json

import openai
from features import CITY, PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from pydantic import BaseModel

FUNCTIONS = [{"type": "function", "function": {"name": name, "parameters": CITY, "strict": True}} for name in TOOLS]


class City(BaseModel):
    city: str


def ask(model, content=SUM, **more):
    messages = [{"role": "user", "content": content}]
    return (more.pop("client", client)).chat.completions.create(model=model, messages=messages, **more)


def chat(model):
    assert "84" in ask(model).choices[0].message.content


def stream(model):
    chunks = list(ask(model, stream=True))
    assert "84" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def tools(model):
    messages = [{"role": "user", "content": question()}]
    first = client.chat.completions.create(model=model, messages=messages, tools=FUNCTIONS).choices[0].message
    assert [call.function.name for call in first.tool_calls] == list(TOOLS)
    messages.append(first)
    for call in first.tool_calls:
        result = weather(json.loads(call.function.arguments)["city"])
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    answer = client.chat.completions.create(model=model, messages=messages, tools=FUNCTIONS)
    assert answer.choices[0].message.content


def structured(model):
    messages = [{"role": "user", "content": "A city, please"}]
    answer = client.chat.completions.parse(model=model, messages=messages, response_format=City)
    assert answer.choices[0].message.parsed.city


def image(model):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    answer = ask(model, [{"type": "text", "text": "What is this?"}, picture])
    assert answer.usage.prompt_tokens > 80


def embeddings(model):
    assert len(client.embeddings.create(model=model, input=["a", "b"]).data[1].embedding) == 256


def unknown_model(model):
    refused(openai.NotFoundError, lambda: ask(model))


def wrong_key(model):
    refused(openai.AuthenticationError, lambda: ask(model, client=client.with_options(api_key=WRONG_KEY)))


def usage(model):
    counted = ask(model).usage
    assert counted.total_tokens == counted.prompt_tokens + counted.completion_tokens > 0
    *_, last = ask(model, stream=True, stream_options={"include_usage": True})
    assert last.usage.total_tokens == counted.total_tokens


def cancel(model):
    with ask(model, stream=True) as chunks:
        for chunk in chunks:
            if chunk.choices[0].delta.content:
                break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
