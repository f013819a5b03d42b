"""When a failed call is repeated, and with which model; and how many repeats a process allows itself."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from modelpilot.providers.breaker import RollingCount

# Before fallback attempt i: INITIAL_WAIT_S * COEFFICIENT^i, at most MAXIMUM_WAIT_S, without jitter.
INITIAL_WAIT_S = 1.0
COEFFICIENT = 2.0
MAXIMUM_WAIT_S = 60.0
# Waits between calls of the same model before any fallback: short, since a client is waiting, and jittered.
SAME_MODEL_WAIT_S = 0.25
# A provider that asks for a longer wait than this is left for the fallback.
LONGEST_SAME_MODEL_WAIT_S = 5.0
FALLBACK_SEQ = 100  # attempts of the fallback phase are numbered from here


def fallback_model(
    models: Sequence[str],
    attempt: int,
    tried: Sequence[str] = (),
    may_call: Callable[[str], bool] = lambda _: True,
    refused: Collection[str] = (),
) -> str | None:
    """The model of fallback attempt `attempt` (0-based): the list again and again, each model in its turn.

    A model that may not be called now is passed over, and the next one takes its turn; `tried` are the models of the
    fallback attempts before this one, since a turn that was passed over is not given back. Where none may be called,
    the one whose turn it is. Those that `refused` the request are not called again: None where all did.
    """
    turn = 0
    for model in tried:
        turn += next((step for step in range(len(models)) if models[(turn + step) % len(models)] == model), 0) + 1
    turn = max(turn, attempt)  # more attempts may have been made than were recorded
    order = [models[(turn + step) % len(models)] for step in range(len(models))]
    order = [model for model in order if model not in refused]
    return next((model for model in order if may_call(model)), order[0] if order else None)


def fallback_wait_s(attempt: int) -> float:
    """Seconds between the end of the fallback attempt before and attempt `attempt` (0-based); the first is immediate.
    Temporal's retry policy waits as long (`workflows.policies`)."""
    return min(INITIAL_WAIT_S * COEFFICIENT ** (attempt - 1), MAXIMUM_WAIT_S) if attempt > 0 else 0.0


def same_model_wait_s(retry: int, retry_after_s: float | None, jitter: float) -> float | None:
    """Seconds before the same model is called again (`retry` 0-based), or None when it should not be.

    `jitter` in [0, 1) spreads clients that failed together over half to all of the wait. The provider's own
    Retry-After overrides it.
    """
    if retry_after_s is not None:
        return retry_after_s if retry_after_s <= LONGEST_SAME_MODEL_WAIT_S else None
    return SAME_MODEL_WAIT_S * COEFFICIENT**retry * (0.5 + 0.5 * jitter)


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """Repeats of the same model must not double an outage's load: they may be `share` of the first calls of the last
    `window_s` seconds, and `floor` in any case."""

    share: float = 0.2
    floor: int = 10
    window_s: float = 60.0


class RetryBudget:
    """What is left of it. Fallbacks are not counted: they go elsewhere, and `retryAttempts` bounds them."""

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
