"""What messages hold that a model, or the format of its provider, has nothing for."""

from modelpilot.providers.fields import ABSENT, Fitting
from modelpilot.providers.kinds import KINDS
from modelpilot.wire.cache_marks import MARK, has_marks
from modelpilot.wire.jsonb import JsonObject, as_objects


def fit_messages(fitting: Fitting) -> None:
    """What messages hold that this model or this format has nothing for."""
    body, manners = fitting.body, fitting.manners
    content = fitting.content
    for place in KINDS[fitting.kind].wire.unsupported_content(body) if content is None else content:
        fitting.say(place, "excluded", "")
    messages = as_objects(body.get("messages"))
    if manners.names is False and any(_is_named(message) for message in messages):
        messages = [
            {key: value for key, value in message.items() if key != "name"} if _is_named(message) else message
            for message in messages
        ]
        fitting.put("messages", messages)
        fitting.say("messages[].name", "dropped", ABSENT)
    if manners.cache_marks is False and MARK not in fitting.original and has_marks(body):
        fitting.say(MARK, "dropped", "the model caches by itself, or not at all")
    if manners.content_arrays is False:
        messages = [_joined(fitting, index, message) for index, message in enumerate(messages)]
        fitting.put("messages", messages)


def _is_named(message: JsonObject) -> bool:
    return bool(message.get("name")) and message.get("role") not in ("tool", "function")


def _joined(fitting: Fitting, index: int, message: JsonObject) -> JsonObject:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) < len(content) or not all(isinstance(text, str) for text in texts):
        fitting.say(f"messages[{index}].content", "excluded", "text alone")
        return message
    return {**message, "content": "\n".join(map(str, texts))}
