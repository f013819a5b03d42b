"""`llm`, whose models are named in a file of its own."""

# --- setup
import os

import llm

ROUTERS = ("router/openai", "router/claude", "router/gemini")
MODEL = """
- model_id: {name}
  model_name: {name}
  api_base: {url}/v1
  api_key_name: modelpilot
  supports_tools: true
  supports_schema: true
  vision: true
"""


def set_up(names=ROUTERS, url=os.environ["MODELPILOT_API_URL"]):
    """Write what `llm` reads; `llm keys set modelpilot` keeps the key."""
    models = "".join(MODEL.format(name=name, url=url) for name in names)
    llm.user_dir().mkdir(parents=True, exist_ok=True)
    (llm.user_dir() / "extra-openai-models.yaml").write_text(models)


# --- end of setup

import base64

from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, run, weather
from pydantic import BaseModel

KEY = os.environ["MODELPILOT_API_KEY"]
set_up((*ROUTERS, "router/turns-1", "router/turns-2", "router/turns-3", "router/none", "router/long"))


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


def ask(model, said=SUM, key=KEY, **more):
    return llm.get_model(model).prompt(said, key=key, **more)


def chat(model):
    assert "84" in ask(model, stream=False).text()


def stream(model):
    assert "84" in "".join(ask(model))


def tools(model):
    USED.clear()
    chain = llm.get_model(model).chain(question(), tools=[get_weather, get_time], key=KEY)
    assert chain.text()
    assert list(TOOLS) == USED


def structured(model):
    assert City.model_validate_json(ask(model, "A city, please", schema=City).text()).city


def image(model):
    answer = ask(
        model, "What is this?", attachments=[llm.Attachment(content=base64.b64decode(PIXEL), type="image/png")]
    )
    assert answer.text()
    assert answer.usage().input > 80


def refusal(text, asking):
    try:
        asking()
    except Exception as error:  # it has no class of its own for providers' errors
        assert text in str(error), error
        return
    raise AssertionError("no error was raised")


def unknown_model(model):
    refusal("does not exist", lambda: ask(model).text())


def wrong_key(model):
    refusal("API key", lambda: ask(model, key=WRONG_KEY).text())


def usage(model):
    for streamed in (False, True):
        answer = ask(model, stream=streamed)
        answer.text()
        assert answer.usage().output > 0


def cancel(model):
    for _ in ask(model):
        break


run({
    "chat": chat, "stream": stream, "tools": tools, "structured": structured, "image": image,
    "embeddings": "OpenAI's own models only", "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage,
    "cancel": cancel,
})  # fmt: skip
