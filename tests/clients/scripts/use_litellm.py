"""LiteLLM's SDK, with its prefixes `openai/` and `anthropic/`."""

# --- setup
import os

import litellm

url, key = os.environ["MODELPILOT_API_URL"], os.environ["MODELPILOT_API_KEY"]


def openai_format(model, **fields):
    return litellm.completion(f"openai/{model}", **{"api_base": url + "/v1", "api_key": key, **fields})


def anthropic_format(model, **fields):
    return litellm.completion(f"anthropic/{model}", **{"api_base": url, "api_key": key, **fields})


def embed(model, texts):
    return litellm.embedding(f"openai/{model}", input=texts, api_base=url + "/v1", api_key=key, encoding_format="float")


# --- end of setup

import json

from features import CITY, PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather
from pydantic import BaseModel

BOTH = (openai_format, anthropic_format)
FUNCTIONS = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in TOOLS]
SAID = [{"role": "user", "content": SUM}]


class City(BaseModel):
    city: str


def chat(model):
    for complete in BOTH:
        assert "84" in complete(model, messages=SAID).choices[0].message.content


def stream(model):
    for complete in BOTH:
        chunks = complete(model, messages=SAID, stream=True)
        assert "84" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def tools(model):
    for complete in BOTH:
        messages = [{"role": "user", "content": question()}]
        first = complete(model, messages=messages, tools=FUNCTIONS).choices[0].message
        assert [call.function.name for call in first.tool_calls] == list(TOOLS)
        messages.append(first)
        for call in first.tool_calls:
            result = weather(json.loads(call.function.arguments)["city"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        assert complete(model, messages=messages, tools=FUNCTIONS).choices[0].message.content


def structured(model):
    messages = [{"role": "user", "content": "A city, please"}]
    for complete in BOTH:
        answer = complete(model, messages=messages, response_format=City)
        assert City.model_validate_json(answer.choices[0].message.content).city


def image(model):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    for complete in BOTH:
        assert complete(model, messages=messages).usage.prompt_tokens > 80


def embeddings(model):
    assert len(embed(model, ["a", "b"]).data[1]["embedding"]) == 256


def unknown_model(model):
    for complete in BOTH:
        refused(litellm.NotFoundError, lambda complete=complete: complete(model, messages=SAID))


def wrong_key(model):
    for complete in BOTH:
        refused(
            litellm.AuthenticationError,
            lambda complete=complete: complete(model, messages=SAID, api_key=WRONG_KEY),
        )


def usage(model):
    for complete in BOTH:
        assert complete(model, messages=SAID).usage.total_tokens > 0
        *_, last = complete(model, messages=SAID, stream=True, stream_options={"include_usage": True})
        assert last.usage.total_tokens > 0


def cancel(model):
    for chunk in openai_format(model, messages=SAID, stream=True):
        if chunk.choices[0].delta.content:
            break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
