"""Instructor, over OpenAI's SDK: answers as pydantic models, by tools and by JSON schema."""

# --- setup
import os

import instructor
from openai import OpenAI

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]
client = instructor.from_openai(OpenAI(base_url=url, api_key=key))
# --- end of setup

import openai
from features import PIXEL, SUM, WRONG_KEY, run
from instructor.core.exceptions import InstructorRetryException
from pydantic import BaseModel

MODES = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.MD_JSON)


class City(BaseModel):
    """A city."""

    city: str


def create(model, content="A city, please", made=client, **more):
    messages = [{"role": "user", "content": content}]
    return made.chat.completions.create_with_completion(
        model=model, messages=messages, response_model=City, max_retries=1, **more
    )


def chat(model):
    said = [{"role": "user", "content": SUM}]
    answer = client.chat.completions.create(model=model, messages=said, response_model=None)
    assert "84" in answer.choices[0].message.content


def stream(model):
    said = [{"role": "user", "content": "A city, please"}]
    *_, last = client.chat.completions.create_partial(model=model, messages=said, response_model=City)
    assert last.city


def structured(model):
    for mode in MODES[:2]:
        assert create(model, made=instructor.from_openai(OpenAI(base_url=url, api_key=key), mode=mode))[0].city


def image(model):
    picture = instructor.Image.from_base64(f"data:image/png;base64,{PIXEL}")
    assert create(model, ["Which city is this?", picture])[1].usage.prompt_tokens > 80


def refused(kind, asking):
    try:
        asking()
    except kind:
        return
    except InstructorRetryException as error:
        assert isinstance(error.__cause__, kind) or any(
            isinstance(tried.exception, kind) for tried in error.failed_attempts
        )
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def unknown_model(model):
    refused(openai.NotFoundError, lambda: create(model))


def wrong_key(model):
    stranger = instructor.from_openai(OpenAI(base_url=url, api_key=WRONG_KEY))
    refused(openai.AuthenticationError, lambda: create(model, made=stranger))


def usage(model):
    assert create(model)[1].usage.total_tokens > 0


run({
    "chat": chat, "stream": stream, "tools": "calls are its way to structured answers", "structured": structured,
    "image": image, "embeddings": "has none", "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage,
    "cancel": "streams partial objects",
})  # fmt: skip
