"""Which fields each kind of provider cannot honour, in one place, for those who choose between them."""

from collections.abc import Callable, Mapping

from modelpilot.wire import anthropic, gemini, openai
from modelpilot.wire.jsonb import JsonObject

_UNSUPPORTED: Mapping[str, Callable[[JsonObject], list[str]]] = {
    "openai": openai.unsupported_fields,
    "openrouter": openai.unsupported_fields,
    "simulator": openai.unsupported_fields,
    "anthropic": anthropic.unsupported_fields,
    "google": gemini.unsupported_fields,
}


def unsupported_fields(kind: str, body: JsonObject) -> list[str]:
    """The fields of an OpenAI `body` that a provider of `kind` cannot honour (none for an unknown kind)."""
    check = _UNSUPPORTED.get(kind)
    return [] if check is None else check(body)
