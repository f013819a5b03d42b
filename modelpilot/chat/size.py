"""How large a prompt is: everything in a request's body that a provider counts as input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from modelpilot.chat.media import Media, media_in, media_tokens
from modelpilot.chat.tokens import count_each
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects, dump
from modelpilot.wire.parts import reasoning_of

# OpenAI's: a message with its role, a name in it, the beginning of the answer.
# https://github.com/openai/openai-cookbook, "How to count tokens with tiktoken"
TOKENS_PER_MESSAGE, TOKENS_PER_NAME, TOKENS_OF_ANSWER = 4, 1, 3
TOKENS_PER_CALL = 4  # what frames a call of a tool


@dataclass(frozen=True, slots=True)
class PromptSize:
    """Tokens of a prompt by our vocabulary, and what of it is no text, which has a rule for each provider.

    `head`: tools, the schema of the answer, and what frames every request. `messages`: the text of each one.
    `media`: each part with the index of its message.
    """

    head: int
    messages: tuple[int, ...]
    media: tuple[tuple[int, Media], ...] = ()

    @classmethod
    def of(cls, body: JsonObject) -> "PromptSize":
        """Of a chat body, whose `messages` are objects."""
        messages = body["messages"]
        texts, owners = list(_head_texts(body)), []
        head_texts, media = len(texts), list[tuple[int, Media]]()
        turn = _turn_begins(messages)
        for index, message in enumerate(messages):
            found = [*_texts(message, thinks=index > turn)]
            texts += found
            owners += [index] * len(found)
            content = message.get("content")
            if isinstance(content, list):
                parts = (media_in(part) for part in content if isinstance(part, dict))
                media += [(index, part) for part in parts if part is not None]
        counts = count_each(texts)
        tokens = [TOKENS_PER_MESSAGE + _frames(message) for message in messages]
        for owner, count in zip(owners, counts[head_texts:], strict=True):
            tokens[owner] += count
        return cls(TOKENS_OF_ANSWER + sum(counts[:head_texts]), tuple(tokens), tuple(media))

    @property
    def text_tokens(self) -> int:
        """All but media."""
        return self.head + sum(self.messages)

    @property
    def tokens(self) -> int:
        """The whole, media by the rule of OpenAI's usual models."""
        return self.text_tokens + self.media_tokens()

    @property
    def has_images(self) -> bool:
        """Whether there is a picture in it."""
        return any(part.kind == "image" for _, part in self.media)

    def media_tokens(self, kind: str | None = None, model: str = "") -> int:
        """All media by the rule of a model (see `modelpilot.chat.media.media_tokens`)."""
        return sum(media_tokens(part, kind, model) for _, part in self.media)

    def tokens_until(self) -> list[int]:
        """The tokens up to the end of each message."""
        tokens = [*self.messages]
        for index, part in self.media:
            tokens[index] += media_tokens(part)
        return list(accumulate(tokens, initial=self.head))[1:]


def _head_texts(body: JsonObject) -> Iterator[str]:
    for name in ("tools", "functions"):
        if body.get(name):
            yield _json(body[name])
    schema = as_object(body.get("response_format")).get("json_schema")
    if schema:
        yield _json(schema)


def _texts(message: JsonObject, *, thinks: bool) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif content is not None:
        yield from (text for part in as_objects(content) if (text := _text(part)))
    if isinstance(name := message.get("name"), str):
        yield name
    for call in _calls(message):
        yield from (each if isinstance(each, str) else _json(each) for each in map(call.get, _OF_CALLS) if each)
    if thinks and (thought := _thought(message)):
        yield thought


_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_OF_CALLS = ("name", "arguments", "input")


def _text(part: JsonObject) -> str:
    text = part.get(_TEXTS.get(str(part.get("type")), ""))
    return text if isinstance(text, str) else ""


def _calls(message: JsonObject) -> list[JsonObject]:
    calls = as_objects(message.get("tool_calls"))
    found = [as_object(call.get("function") or call.get("custom")) for call in calls]
    return [*found, old] if (old := as_object(message.get("function_call"))) else found


def _frames(message: JsonObject) -> int:
    named = TOKENS_PER_NAME if isinstance(message.get("name"), str) else 0
    return named + TOKENS_PER_CALL * len(_calls(message))


def _turn_begins(messages: Sequence[JsonObject]) -> int:
    """The last message of a person: reasoning behind it belongs to the answer that is being made, and is counted; that
    of earlier turns, providers leave out."""
    backwards = range(len(messages) - 1, -1, -1)
    return next((at for at in backwards if messages[at].get("role") == "user"), len(messages))


def _thought(message: JsonObject) -> str:
    blocks = [each.get("thinking") for each in as_objects(message.get("thinking_blocks"))]
    return "".join(each for each in blocks if isinstance(each, str)) or reasoning_of(message)


def _json(value: Any) -> str:
    return dump(value).decode()
