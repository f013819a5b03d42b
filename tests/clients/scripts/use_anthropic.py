"""Anthropic's SDK for Python."""

# --- setup
import os

from anthropic import Anthropic

client = Anthropic(base_url=os.environ["MODELPILOT_API_URL"], api_key=os.environ["MODELPILOT_API_KEY"])
# --- end of setup

import anthropic
from features import CITY, PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from pydantic import BaseModel

OFFERED = [{"name": name, "input_schema": CITY} for name in TOOLS]


class City(BaseModel):
    city: str


def ask(model, content=SUM, **more):
    messages = [{"role": "user", "content": content}]
    return more.pop("client", client).messages.create(model=model, max_tokens=2000, messages=messages, **more)


def chat(model):
    assert "84" in ask(model).content[0].text


def stream(model):
    with client.messages.stream(model=model, max_tokens=500, messages=[{"role": "user", "content": SUM}]) as events:
        assert "84" in "".join(events.text_stream)


def tools(model):
    messages = [{"role": "user", "content": question()}]
    first = client.messages.create(model=model, max_tokens=500, messages=messages, tools=OFFERED)
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.name for call in calls] == list(TOOLS)
    messages.append({"role": "assistant", "content": first.content})
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": weather(call.input["city"])} for call in calls
    ]
    messages.append({"role": "user", "content": results})
    answer = client.messages.create(model=model, max_tokens=500, messages=messages, tools=OFFERED)
    assert answer.content[0].text


def structured(model):
    messages = [{"role": "user", "content": "A city, please"}]
    answer = client.messages.parse(model=model, max_tokens=500, messages=messages, output_format=City)
    assert answer.parsed_output.city


def image(model):
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    answer = ask(model, [{"type": "text", "text": "What is this?"}, picture])
    assert answer.usage.input_tokens > 80


def unknown_model(model):
    refused(anthropic.NotFoundError, lambda: ask(model))


def wrong_key(model):
    refused(anthropic.AuthenticationError, lambda: ask(model, client=client.with_options(api_key=WRONG_KEY)))


def usage(model):
    counted = ask(model).usage
    assert counted.input_tokens > 0 < counted.output_tokens
    with client.messages.stream(model=model, max_tokens=2000, messages=[{"role": "user", "content": SUM}]) as events:
        streamed = events.get_final_message().usage
    assert (streamed.input_tokens, streamed.output_tokens) == (counted.input_tokens, counted.output_tokens)


def cancel(model):
    messages = [{"role": "user", "content": SUM}]
    with client.messages.stream(model=model, max_tokens=2000, messages=messages) as events:
        for _ in events.text_stream:
            break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": "Anthropic has none", "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage,
    "cancel": cancel,
})  # fmt: skip
