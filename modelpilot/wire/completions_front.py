"""OpenAI's old text completions over chat: each prompt as one message of the user, each answer as text.

Chat models complete no text in the middle, and count no tokens of a prompt: what asks for that is refused and named.
"""

from itertools import accumulate
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from modelpilot.chat.body import RequestOptions
from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects
from modelpilot.wire.parts import text_of

MAX_PROMPTS = 64
_DEFAULT_MAX_TOKENS = 16  # OpenAI's; clients that want more have always said so
_OWN_FIELDS = frozenset({"prompt", "suffix", "echo", "best_of", "logprobs", "max_tokens", "messages"})
_FINISH = {"length": "length", "content_filter": "content_filter"}


class CompletionsBody(BaseModel):
    """A text completion request; `model` is `router/{routerId}` or a model of the catalogue. What is not named here
    means what it means for chat."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)

    model: Annotated[str, Field(min_length=1)]
    prompt: str | list[Any]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    suffix: str | None = None
    echo: bool | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    best_of: int | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    modelpilot: RequestOptions | None = None


def prompts_of(body: JsonObject) -> list[str]:
    """The prompts of a checked `body`. Raises InvalidRequest, whose `param` names what has no counterpart in chat."""
    prompt = body["prompt"]
    prompts: list[str] = prompt if isinstance(prompt, list) else [prompt]
    if not prompts or not all(isinstance(each, str) for each in prompts):
        raise InvalidRequest.at(
            "prompt", "text or a list of texts was expected; tokens mean another thing to every model"
        )
    if len(prompts) > MAX_PROMPTS:
        raise InvalidRequest.at("prompt", f"at most {MAX_PROMPTS} texts at once are possible")
    if len(prompts) > 1 and body.get("stream"):
        raise InvalidRequest.at("prompt", "a stream answers one text; send one request for each")
    if body.get("suffix"):
        raise InvalidRequest.at("suffix", "chat models cannot insert before a suffix; leave it out")
    if body.get("best_of") not in (None, body.get("n") or 1):
        raise InvalidRequest.at("best_of", "only as many answers as are returned (n) can be generated")
    if body.get("max_tokens") == 0:
        raise InvalidRequest.at("max_tokens", "at least 1 was expected; chat models cannot score a prompt alone")
    return prompts


def chat_request_of(body: JsonObject, prompt: str) -> JsonObject:
    """The chat body that asks for one of the prompts of `body`."""
    request = {name: value for name, value in body.items() if name not in _OWN_FIELDS}
    request["messages"] = [{"role": "user", "content": prompt}]
    # Not `max_tokens`: OpenAI's reasoning models refuse that name.
    limit = body.get("max_tokens")
    request["max_completion_tokens"] = _DEFAULT_MAX_TOKENS if limit is None else limit
    if (top := body.get("logprobs")) is not None:
        request |= {"logprobs": True, "top_logprobs": top}
    return request


def completion_of(completion: JsonObject, echo: str = "", first_index: int = 0) -> JsonObject:
    """The text completion that says what the chat `completion` says, behind the prompt to `echo`; its choices count
    from `first_index`."""
    choices = [
        _choice(choice, as_object(choice.get("message")), echo, first_index + index)
        for index, choice in enumerate(as_objects(completion.get("choices")))
    ]
    return {**completion, "object": "text_completion", "choices": choices}


def merged(completions: list[JsonObject]) -> JsonObject:
    """The answers to several prompts as one, with the sum of their token counts."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usages = [as_object(each.get("usage")) for each in completions]
    usage = {name: sum(each.get(name) or 0 for each in usages) for name in names}
    return {**completions[0], "choices": [choice for each in completions for choice in each["choices"]], "usage": usage}


class TextChunks:
    """Translates the chunks of one stream. `echo`: the prompt, which each choice begins with."""

    def __init__(self, echo: str = "") -> None:
        self._echo = echo
        self._lengths: dict[int, int] = {}  # characters so far, by choice

    def take(self, chunk: JsonObject) -> JsonObject | None:
        """The same as a chunk of text; None where it says nothing."""
        choices = [made for choice in as_objects(chunk.get("choices")) if (made := self._choice(choice)) is not None]
        if not choices and chunk.get("usage") is None:
            return None
        return {**chunk, "object": "text_completion", "choices": choices}

    def _choice(self, choice: JsonObject) -> JsonObject | None:
        index, offset = choice.get("index") or 0, self._lengths.get(choice.get("index") or 0)
        made = _choice(choice, as_object(choice.get("delta")), "", index, offset or len(self._echo))
        if not (made["text"] or made["finish_reason"]):
            return None
        if offset is None:
            made["text"] = self._echo + made["text"]
        self._lengths[index] = (offset or 0) + len(made["text"])
        return made


def _choice(choice: JsonObject, said: JsonObject, echo: str, index: int, offset: int = 0) -> JsonObject:
    text = text_of(said.get("content")) + (said.get("refusal") or "")
    finish = choice.get("finish_reason")
    return {
        "index": index,
        "text": echo + text,
        "logprobs": _logprobs(choice.get("logprobs"), offset + len(echo)),
        "finish_reason": _FINISH.get(str(finish), "stop") if finish else None,
    }


def _logprobs(logprobs: Any, offset: int) -> JsonObject | None:
    """Chat's list of tokens as the old columns; `offset` is where in the text the first one stands."""
    tokens = as_objects(as_object(logprobs).get("content"))
    if not tokens:
        return None
    texts = [str(each.get("token", "")) for each in tokens]
    tops = [{top.get("token"): top.get("logprob") for top in as_objects(each.get("top_logprobs"))} for each in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [each.get("logprob") for each in tokens],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": list(accumulate(map(len, texts[:-1]), initial=offset)),
    }
