"""DSPy."""

# --- setup
import os

import dspy

url, key = os.environ["MODELPILOT_API_URL"] + "/v1", os.environ["MODELPILOT_API_KEY"]


def lm(model, api_key=key):
    return dspy.LM(f"openai/{model}", api_base=url, api_key=api_key, cache=False)


def embedder(model):
    return dspy.Embedder(f"openai/{model}", api_base=url, api_key=key, caching=False, encoding_format="float")


# --- end of setup

from features import PIXEL, SUM, TOOLS, WRONG_KEY, question, refused, run, weather


def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def get_time(city: str) -> str:
    """The time in a city."""
    return weather(city)


def chat(model):
    assert "84" in lm(model)(SUM)[0]


def structured(model):
    with dspy.context(lm=lm(model), adapter=dspy.JSONAdapter()):
        assert dspy.Predict("question -> city: str")(question="A city, please").city


def tools(model):
    asked = lm(model)
    functions = [dspy.Tool(used).format_as_litellm_function_call() for used in (get_weather, get_time)]
    messages = [{"role": "user", "content": question()}]
    calls = asked(messages=messages, tools=functions)[0]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == list(TOOLS)
    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    messages += [{"role": "tool", "tool_call_id": call["id"], "content": weather("Paris")} for call in calls]
    assert asked(messages=messages, tools=functions)[0]


def image(model):
    with dspy.context(lm=lm(model), adapter=dspy.JSONAdapter()):
        picture = dspy.Image(f"data:image/png;base64,{PIXEL}")
        assert dspy.Predict("picture: dspy.Image -> what: str")(picture=picture).what


def embeddings(model):
    assert embedder(model)(["a", "b"]).shape == (2, 256)


def unknown_model(model):
    refused(dspy.LMInvalidRequestError, lambda: lm(model)(SUM))


def wrong_key(model):
    refused(dspy.LMAuthError, lambda: lm(model, WRONG_KEY)(SUM))


def usage(model):
    asked = lm(model)
    asked(SUM)
    assert asked.history[-1]["usage"]["total_tokens"] > 0


run({
    "chat": chat, "stream": "streams fields of its own text format", "tools": tools, "structured": structured,
    "image": image, "embeddings": embeddings, "unknown model": unknown_model, "wrong key": wrong_key, "usage": usage,
    "cancel": "streams fields of its own text format",
})  # fmt: skip
