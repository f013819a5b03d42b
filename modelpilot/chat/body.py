"""An incoming OpenAI-style chat request: checked where routing needs it, passed through untouched elsewhere."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from modelpilot.routing.preferences import MOST_NAMES, Names, ProviderPreferences
from modelpilot.routing.router import CallFormat, Constraints, Objective
from modelpilot.wire.json_model import WireModel

# Tags travel with the request through every store, and become dimensions of reports.
MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 32, 64, 512
TagName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TAG_NAME)]
TagValue = Annotated[str, StringConstraints(max_length=MAX_TAG_VALUE)]
# More than any provider takes. `fail_fast`: the first of a million wrong entries says enough.
MAX_MESSAGES = 100_000
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class RequestOptions(WireModel):
    """The `modelpilot` object of a request body: it narrows a router's settings for this request only."""

    objective: Objective | None = None
    constraints: Constraints | None = None
    call_format: CallFormat | None = None
    tags: dict[TagName, TagValue] = Field(default_factory=dict, max_length=MAX_TAGS)
    session_id: Annotated[str, Field(max_length=200)] | None = None

    def overrides(self) -> dict[str, Any] | None:
        """What the request lays down about its own decision, as the decision records it; None: nothing."""
        if self.objective is None and self.constraints is None:
            return None
        constraints = None if self.constraints is None else self.constraints.to_wire()
        return {"objective": self.objective is not None, "constraints": constraints}


class _OpenAIModel(BaseModel):
    """OpenAI keeps its snake_case names; fields that we do not know are kept for the provider."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)


class Message(_OpenAIModel):
    """One message; `content` is text, a list of parts, or null beside tool calls."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Objects | None = None
    tool_calls: Objects | None = None


class FallbackModel(BaseModel):
    """An entry of LiteLLM's `fallbacks` as an object. What else it may hold there would make it another request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str


class ChatBody(_OpenAIModel):
    """The fields of a chat request that routing reads. Everything else travels to the provider as it came.

    `models`, `route` and `provider` are OpenRouter's, `fallbacks` is LiteLLM's.
    """

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: Objects | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    reasoning_effort: str | None = None
    models: Names | None = None
    route: Literal["fallback"] | None = None
    fallbacks: Annotated[list[str | FallbackModel], Field(max_length=MOST_NAMES)] | None = None
    provider: ProviderPreferences | None = None
    modelpilot: RequestOptions | None = None

    def named(self) -> Iterator[tuple[str, str]]:
        """The models that are asked for, the first one first, each behind the field that names it."""
        if self.model:
            yield "model", self.model
        for place, name in enumerate(self.models or ()):
            yield f"models[{place}]", name
        for place, each in enumerate(self.fallbacks or ()):
            yield f"fallbacks[{place}]", each if isinstance(each, str) else each.model
