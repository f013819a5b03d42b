"""Google's SDK for Python."""

# --- setup
import os

from google import genai

url, key = os.environ["MODELPILOT_API_URL"], os.environ["MODELPILOT_API_KEY"]
client = genai.Client(api_key=key, http_options={"base_url": url})
# --- end of setup

import base64

from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, run, weather
from google.genai import errors, types
from pydantic import BaseModel


class City(BaseModel):
    city: str


def get_weather(city: str) -> str:
    """The weather of a city."""
    USED.append("get_weather")
    return weather(city)


def get_time(city: str) -> str:
    """The time in a city."""
    USED.append("get_time")
    return weather(city)


USED = []


def ask(model, contents=SUM, made=client, **config):
    return made.models.generate_content(model=model, contents=contents, config=config)


def chat(model):
    assert "84" in ask(model).text


def stream(model):
    assert "84" in "".join(
        chunk.text or "" for chunk in client.models.generate_content_stream(model=model, contents=SUM)
    )


def tools(model):
    USED.clear()
    assert ask(model, question(), tools=[get_weather, get_time]).text
    assert list(TOOLS) == USED


def structured(model):
    answer = ask(model, "A city, please", response_mime_type="application/json", response_schema=City)
    assert answer.parsed.city


def image(model):
    picture = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
    assert ask(model, ["What is this?", picture]).usage_metadata.prompt_token_count > 80


def embeddings(model):
    assert len(client.models.embed_content(model=model, contents=["a", "b"]).embeddings[1].values) == 256


def refusal(code, asking):
    try:
        asking()
    except errors.ClientError as error:
        assert error.code == code
        return
    raise AssertionError("no ClientError was raised")


def unknown_model(model):
    refusal(404, lambda: ask(model))


def wrong_key(model):
    stranger = genai.Client(api_key=WRONG_KEY, http_options={"base_url": url})
    refusal(401, lambda: ask(model, made=stranger))


def usage(model):
    counted = ask(model).usage_metadata
    assert counted.total_token_count == counted.prompt_token_count + counted.candidates_token_count > 0
    *_, last = client.models.generate_content_stream(model=model, contents=SUM)
    assert last.usage_metadata.total_token_count > 0


def cancel(model):
    for chunk in client.models.generate_content_stream(model=model, contents=SUM):
        if chunk.text:
            break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage, "cancel": cancel,
})  # fmt: skip
