"""Ports of the Responses format: what is kept of a request for those that build on it, and sealed reasoning."""

from collections.abc import Collection
from typing import Protocol

from modelpilot.requests.records import RequestKey
from modelpilot.wire.jsonb import JsonObject
from modelpilot.wire.responses_chain import KeptResponse


class ResponseStore(Protocol):
    """Keeps what Responses requests said, encrypted and as long as their answers. Raises DependencyUnavailable."""

    async def put(self, key: RequestKey, kept: KeptResponse) -> None:
        """Keep it; what was kept under the key before is replaced."""
        ...

    async def find(self, user_id: str, request_ids: Collection[str]) -> dict[str, KeptResponse]:
        """What is kept of these requests of one owner, by request id."""
        ...


class ReasoningSeal(Protocol):
    """Seals reasoning into text that a client carries to its next request and cannot read or change."""

    def seal(self, user_id: str, reasoning: JsonObject) -> str:
        """The sealed text, good for this owner alone."""
        ...

    def open(self, user_id: str, sealed: str) -> JsonObject | None:
        """The reasoning again; None where it was not sealed here, or for somebody else."""
        ...
