"""The phase behind a first one that failed: one attempt after the other, numbered and claimed in the ledger.

`call_fallback` makes one attempt, and its RetryPolicy is the wait until the next; where Temporal is away, the gateway
makes them all itself, with the same waits. Which attempt comes next is what the ledger says, so that nothing is counted
twice wherever the phase goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from activities.requests.call import CallContext, ModelCaller, Sleep, slept
from activities.requests.failures import (
    canceled_outcome,
    is_refusal,
    outcome_of_attempts,
    refusing_models,
    with_earlier,
)
from modelpilot.errors import DependencyUnavailable
from modelpilot.providers.retries import FALLBACK_SEQ, MAXIMUM_WAIT_S, fallback_model, fallback_wait_s
from modelpilot.requests.outcome import Attempt, Outcome
from modelpilot.requests.ports import Ledger

Result = TypeVar("Result")

POLL_S = 0.5


class Run(Protocol):
    """Runs a call, or the wait for one, in a way that lets a client which leaves cancel it."""

    def __call__(self, work: Coroutine[None, None, Result], /) -> Awaitable[Result]:
        """The result of `work`, which says itself that it was canceled."""
        ...


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """An attempt failed, and the next one, of number `number`, is due in `wait_s`."""

    failed: Outcome
    number: int
    wait_s: float


class Fallbacks:
    """Makes the attempts of a request's fallback phase."""

    def __init__(self, caller: ModelCaller, ledger: Ledger, sleep: Sleep = slept, poll_s: float = POLL_S) -> None:
        self._caller, self._ledger, self._sleep, self._poll_s = caller, ledger, sleep, poll_s

    async def attempt(
        self, context: CallContext, failed: Outcome, run: Run, gone: Callable[[], bool]
    ) -> Outcome | NextAttempt:
        """The next attempt: how the request ended with it, attempts of all phases included, or when to try again.

        `failed` is the outcome of the first phase; `gone` says that nobody waits for the answer any more. Raises
        DependencyUnavailable where the ledger cannot say what was tried.
        """
        while True:
            made = await self._made(context)
            earlier = [attempt for attempt in made if attempt.seq >= FALLBACK_SEQ]
            # What a process that was shut down had begun counts as no attempt.
            number = sum(attempt.status != "canceled" for attempt in earlier)
            model = self._model(context, (*failed.attempts, *made), number)
            if model is None or number >= context.plan.retry_attempts or context.remaining_s() <= 0.0:
                last = outcome_of_attempts([attempt for attempt in earlier if attempt.status != "canceled"])
                return with_earlier(last or failed, (*failed.attempts, *made))
            seq = max((attempt.seq for attempt in earlier), default=FALLBACK_SEQ - 1) + 1
            if gone():
                return _left(failed, made)
            if await context.claim(seq):
                break
            # Another living process makes this very call.
            stored = await self._ledger.find(context.key)
            if stored is not None:
                return stored.record.outcome
            if not await run(self._sleep(self._poll_s)):
                return _left(failed, made)
        # Who left while the call was claimed gets none.
        outcome = None if gone() else await self._call(context, failed, model, number, seq, run)
        if outcome is None:
            return _left(failed, made)
        return await self._kept(context, failed, made, self._judged(context, failed, made, outcome, number))

    async def all(self, context: CallContext, failed: Outcome, run: Run, gone: Callable[[], bool]) -> Outcome:
        """Every attempt, with the waits between them. Where the ledger goes away meanwhile, the failure so far."""
        so_far = failed
        while True:
            try:
                found = await self.attempt(context, failed, run, gone)
            except DependencyUnavailable:
                return so_far
            if isinstance(found, Outcome):
                return found
            so_far = with_earlier(found.failed, so_far.attempts)
            await run(self._sleep(found.wait_s))

    async def _kept(
        self, context: CallContext, failed: Outcome, made: tuple[Attempt, ...], found: Outcome | NextAttempt
    ) -> Outcome | NextAttempt:
        """What was found, an attempt behind which another one follows committed: also where the request is canceled
        now. Where the ledger is away, it was the last one, since nobody would know of it."""
        if isinstance(found, Outcome):
            return found
        try:
            await asyncio.shield(self._ledger.record_attempts(context.key, found.failed.attempts))
        except DependencyUnavailable:
            return with_earlier(found.failed, (*failed.attempts, *made))
        return found

    async def _made(self, context: CallContext) -> tuple[Attempt, ...]:
        return await self._ledger.find_attempts(context.key)

    async def _call(
        self, context: CallContext, failed: Outcome, model: str, number: int, seq: int, run: Run
    ) -> Outcome | None:
        """The outcome of one call; None where the client left during the wait before it."""
        # The first fallback is immediate, unless it is the model that has just asked for a wait, which has to fit.
        asked_s = self._asked_wait_s(context, failed, model) if number == 0 else None
        wait_s = asked_s if asked_s is not None and asked_s < context.remaining_s() else 0.0
        if wait_s > 0.0 and not await run(self._sleep(wait_s)):
            return None
        target = self._caller.choose(context, model)
        return await run(self._caller.watched_call(context, target, seq))

    def _judged(
        self, context: CallContext, failed: Outcome, made: Sequence[Attempt], outcome: Outcome, number: int
    ) -> Outcome | NextAttempt:
        again = outcome.status == "failed" and outcome.can_fall_back and number + 1 < context.plan.retry_attempts
        attempts = (*failed.attempts, *made, *outcome.attempts)
        model = self._model(context, attempts, number + 1) if again else None
        if model is not None:
            asked_s = self._asked_wait_s(context, outcome, model)
            wait_s = fallback_wait_s(number + 1) if asked_s is None else asked_s
            if wait_s < context.remaining_s():
                return NextAttempt(outcome, number + 1, wait_s)
        # What is wrong between this request and the last model says less than why the first one failed.
        return with_earlier(failed if is_refusal(outcome) and outcome.can_fall_back else outcome, attempts)

    def _model(self, context: CallContext, attempts: Sequence[Attempt], number: int) -> str | None:
        """The model of fallback attempt `number`, passing over those that something known here speaks against; None
        where each has refused the request. A refusal by one of them brings in the decision's next candidates."""
        plan, refused = context.plan, refusing_models(attempts)
        models = plan.fallback_models
        if refused.intersection(models):
            models = tuple(dict.fromkeys((*models, *plan.next_models)))
        tried = [each.model for each in attempts if each.seq >= FALLBACK_SEQ and each.status != "canceled"]
        return fallback_model(models, number, tried, partial(self._caller.may_call, context), refused)

    def _asked_wait_s(self, context: CallContext, failed: Outcome, model: str) -> float | None:
        """The Retry-After of the call that failed, at most a minute, where `model` is the same one and can only be
        called there again; None where there is nothing to heed."""
        if failed.retry_after_s is None or model != failed.model:
            return None
        if self._caller.has_alternative(context, failed):
            return None
        return min(failed.retry_after_s, MAXIMUM_WAIT_S)


def _left(failed: Outcome, made: tuple[Attempt, ...]) -> Outcome:
    left = canceled_outcome((), failed.model, failed.provider)
    return with_earlier(left, (*failed.attempts, *made))
