"""Where a replay's material comes from."""

from collections.abc import Sequence
from typing import Protocol

from modelpilot.records import HistoryScope
from modelpilot.replay.frame import LoggedRequest
from modelpilot.replay.newcomers import ModelHistory


class DecisionLog(Protocol):
    """Logged decisions of one router. Raises DependencyUnavailable."""

    async def decisions(
        self, scope: HistoryScope, start_s: float | None, end_s: float | None, limit: int
    ) -> Sequence[LoggedRequest]:
        """The newest `limit` requests that ended, made from `start_s` on and before `end_s` (Unix seconds)."""
        ...

    async def histories(self, scope: HistoryScope, models: Sequence[str]) -> dict[str, ModelHistory]:
        """What was seen of these models; those never seen are left out."""
        ...
