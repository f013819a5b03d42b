"""The JSON inside one server-sent event, for every wire format."""

from modelpilot.wire.failures import classify_embedded, classify_error_event, malformed
from modelpilot.wire.jsonb import JsonObject, parse_object
from modelpilot.wire.sse import ServerSentEvent


def event_object(event: ServerSentEvent) -> JsonObject:
    """The object in an event's data. Raises ProviderError: the error it stands for, or malformed_response."""
    if event.name == "error":
        raise classify_error_event(event.data)
    try:
        value = parse_object(event.data)
    except ValueError:
        raise malformed("the provider sent a chunk that is no JSON object") from None
    if (error := classify_embedded(value)) is not None:
        raise error
    return value
