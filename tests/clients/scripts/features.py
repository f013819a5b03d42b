"""What the clients' programs share: questions, a picture, tools, and how a program says which features work.

Runs in each client's own environment, so it needs nothing but the standard library.
"""

import asyncio
import inspect
import json
import os
import secrets
import traceback
from collections.abc import Callable
from typing import Any

SUM = "What is 12 * 7?"
TOOLS = ("get_weather", "get_time")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WRONG_KEY = "mp_" + "0" * 64

# Each feature is tried with these models; what is not listed, with one of each provider's format.
EACH = ("router/openai", "router/claude", "router/gemini")
MODELS = {
    "tools": ("router/turns-1", "router/turns-2", "router/turns-3"),
    "embeddings": ("sim/embed",),
    "unknown model": ("router/none",),
    "wrong key": ("router/openai",),
    "cancel": ("router/long",),
}


def run(features: dict[str, Callable[[str], Any] | str]) -> None:
    """Try every feature (a function of the model's name, or why the client has none), and print a line for each."""
    with asyncio.Runner() as runner:  # one loop for all: some clients keep their connections in it
        for name, feature in features.items():
            print(json.dumps({"feature": name, **_tried(name, feature, runner)}), flush=True)
        os._exit(0)  # some clients leave threads behind that would keep the program


def _tried(name: str, feature: Callable[[str], Any] | str, runner: asyncio.Runner) -> dict[str, str]:
    if isinstance(feature, str):
        return {"none": feature}
    for model in MODELS.get(name, EACH):
        try:
            result = feature(model)
            if inspect.iscoroutine(result):
                runner.run(result)
        except Exception as error:
            return {"failure": f"{model}: {type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return {}


def refused(kind: type[Exception], asking: Callable[[], Any]) -> None:
    """Pass if `asking` ends with this kind of error."""
    try:
        asking()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def question() -> str:
    """A question for both tools. It is a new one each time: the simulator's faults count by prompt."""
    return f"Use get_weather and get_time for Paris, note {secrets.token_hex(4)}"


def weather(city: str) -> str:
    """What the tools answer."""
    return f"12 in {city}"
