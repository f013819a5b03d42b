"""What one request asks for: computed once, used by eligibility, prediction, storage and the call itself."""

from dataclasses import dataclass, field
from typing import Any

from modelpilot.chat import ChatBody, RequestOptions
from modelpilot.classify import classify_request, surface_features
from modelpilot.messages_text import estimate_prompt_tokens, prompt_text, required_capabilities
from modelpilot.wire.jsonb import dump


@dataclass(frozen=True, slots=True)
class RequestProfile:
    """A checked request. `body` is what the client sent, without `modelpilot`, and is never changed."""

    body: dict[str, Any]
    options: RequestOptions
    text: str
    request_type: str
    prompt_tokens: int
    max_output_tokens: int | None
    capabilities: frozenset[str]
    stream: bool
    features: dict[str, float] = field(default_factory=dict)


def profile_request(body: dict[str, Any], checked: ChatBody) -> RequestProfile:
    """Read the request once; `checked` is the validated view of `body`."""
    messages, tools = body["messages"], body.get("tools")
    return RequestProfile(
        body={name: value for name, value in body.items() if name != "modelpilot"},
        options=checked.modelpilot or RequestOptions(),
        text=prompt_text(messages),
        request_type=classify_request(messages, bool(tools)),
        prompt_tokens=estimate_prompt_tokens(messages, len(dump(tools)) if tools else 0),
        max_output_tokens=checked.max_completion_tokens or checked.max_tokens,
        capabilities=required_capabilities(body),
        stream=bool(checked.stream),
        features=surface_features(messages),
    )
