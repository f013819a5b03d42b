"""What is kept of an answer to learn from it later: its text where the router stores it, and what people say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelpilot.records import RequestKey


@dataclass(frozen=True, slots=True)
class StoredText:
    """A request's body (without `modelpilot`) and its OpenAI-shaped answer; None where it failed."""

    body: dict[str, Any] = field(repr=False)
    answer: dict[str, Any] | None = field(repr=False)


class TextStore(Protocol):
    """Prompts and answers of routers that store them. Methods raise DependencyUnavailable."""

    async def read(self, user_id: str, request_ids: Sequence[str]) -> Mapping[str, StoredText]:
        """Those that are stored and have not expired, by request id."""
        ...

    async def delete(self, key: RequestKey) -> bool:
        """Delete every word of a request that ended: its stored text, its payloads kept for recovery, comments and
        judges' reasons. False where there was none."""
        ...


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one source says about one request. `end_user` is the client's own name for who says so, never stored in
    clear; None: the API key itself speaks."""

    key: RequestKey
    api_key_id: str
    score: float
    end_user: str | None = None
    comment: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rated:
    """A request after feedback: its quality now, and where that comes from."""

    request_id: str
    score: float
    quality: float
    quality_source: str


class FeedbackStore(Protocol):
    """Feedback, and the quality of the rows that it is about. Methods raise DependencyUnavailable."""

    async def router_of(self, key: RequestKey) -> str | None:
        """The router of an ended request ("" for a model called directly), or None: there is no such request."""
        ...

    async def put(self, feedback: Feedback) -> Rated:
        """Store it in place of what the same source said before, and revise the request's quality at once. Raises
        NotFound where the request has not ended, Conflict where it has no answer to rate."""
        ...
