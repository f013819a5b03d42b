"""The body of a Messages request as clients send it: checked where the translation relies on it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelpilot.chat import RequestOptions


class _Open(BaseModel):
    """Anthropic keeps its snake_case names; the translation names the fields that it does not know."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)


class InputMessage(_Open):
    """One turn; `content` is text or a list of blocks."""

    role: Literal["user", "assistant"]
    content: str | list[dict[str, Any]]


class CountTokensBody(_Open):
    """What a Messages request says, with `model: router/{routerId}` or a model of the catalogue."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[InputMessage], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    metadata: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    modelpilot: RequestOptions | None = None


class MessagesBody(CountTokensBody):
    """A Messages request."""

    max_tokens: Annotated[int, Field(ge=1)]
