"""How many quick repeats of the same model a process allows itself: repeats must not double an outage's load."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from modelpilot.rolling import RollingCount


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """Repeats may be `share` of the first calls of the last `window_s` seconds, and `floor` in any case."""

    share: float = 0.2
    floor: int = 10
    window_s: float = 60.0


class RetryBudget:
    """Fallbacks are not counted: they go elsewhere, and `retryAttempts` bounds them."""

    def __init__(self, rules: BudgetRules | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules or BudgetRules()
        self._calls = RollingCount(self._rules.window_s, clock)
        self._repeats = RollingCount(self._rules.window_s, clock)

    def note_call(self) -> None:
        """A first call of a request."""
        self._calls.add()

    def try_spend(self) -> bool:
        """Take one repeat from the budget; false where none is left."""
        allowed = self._repeats.total() < max(self._rules.floor, self._rules.share * self._calls.total())
        if allowed:
            self._repeats.add()
        return allowed
