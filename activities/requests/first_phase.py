"""The first phase of a request: the decided model with its own quick retries, and, where models refuse the request,
the next ones."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from activities.requests.balancer import speaks_of_deployment
from activities.requests.deployments import Target
from activities.requests.failures import is_refusal, refusing_models, spent_usd, telling
from modelpilot.providers.retries import same_model_wait_s
from modelpilot.requests.outcome import Attempt, Outcome

if TYPE_CHECKING:
    from activities.requests.call import CallContext, ModelCaller


class FirstPhase:
    """The first phase of one request, in one process.

    Every call but the first is claimed, and nothing of it is committed before it ends: who takes over after a crash
    begins again, and refused calls cost nothing.
    """

    def __init__(self, caller: "ModelCaller", context: "CallContext") -> None:
        self._caller, self._context = caller, context
        self._refused: list[tuple[Target, Outcome]] = []

    async def run(self, chosen: Target) -> Outcome:
        """The decided model at the deployment `chosen`. Where it refuses the request, the plan's next model is called
        at once, each at most once, until one takes it or fails otherwise.

        The outcome has every attempt and what is left of the total time. Of several refusals it is the first that
        tells the client what to do.
        """
        self._caller.budget.note_call()
        attempts: tuple[Attempt, ...] = ()
        target: Target | None = chosen
        while target is not None:
            target, outcome = await self._with_repeats(target, attempts)
            attempts = outcome.attempts
            if not is_refusal(outcome):
                self._learn(outcome)
                return self._ended(outcome, attempts)
            self._refused.append((target, outcome))
            target = await self._next_model(outcome)
        return self._ended(telling([each for _, each in self._refused]), attempts)

    async def _next_model(self, outcome: Outcome) -> Target | None:
        """Where a request goes that was refused so far; None: nowhere, or not now."""
        context, tried = self._context, {target.model for target, _ in self._refused}
        begun = context.sink is not None and context.sink.transcript.started
        if begun or not outcome.can_fall_back or context.remaining_s() <= 0.0:
            return None
        left = [each for each in context.plan.next_models if each not in tried]
        left = [each for each in left if self._caller.is_healthy(context, each)]
        # What is remembered is a reason to ask another one first, not to ask nobody.
        model = next((each for each in left if not self._caller.has_refused(context, each)), left[0] if left else None)
        if model is None or not await context.may_make(len(outcome.attempts)):
            return None
        return self._caller.choose(context, model)

    def _learn(self, outcome: Outcome) -> None:
        """What another model took was no fault of the request: who refused it is not asked for the same again soon."""
        for target, refusal in self._refused:
            if outcome.status == "completed" and refusal.error_code == "bad_request":
                self._caller.note_refusal(self._context, target, refusal)

    def _ended(self, outcome: Outcome, attempts: tuple[Attempt, ...]) -> Outcome:
        fallbacks = self._context.plan.fallback_models
        # A model that refused is no fallback any more.
        none_left = bool(fallbacks) and refusing_models(attempts).issuperset(fallbacks)
        return replace(
            outcome,
            attempts=attempts,
            cost_usd=spent_usd(attempts),
            can_fall_back=outcome.can_fall_back and not none_left,
            remaining_ms=max(self._context.remaining_s() * 1000.0, 0.0),
        )

    async def _with_repeats(self, target: Target, earlier: tuple[Attempt, ...]) -> tuple[Target, Outcome]:
        """One model, and again after a failure that another call may mend, at most `same_model_retries` times:
        elsewhere at once, or after a wait at the same deployment. A refusal that has taught something about the
        server's manners is repeated at once, and not counted. The outcome has the `earlier` attempts, too."""
        attempts, tried = earlier, [target]
        while True:
            known = self._caller.learnt.of(target)
            outcome = await self._caller.watched_call(self._context, target, seq=len(attempts))
            attempts = (*attempts, *outcome.attempts)
            taught = outcome.status == "failed" and self._caller.learnt.of(target) is not known
            again = target if taught else await self._again(tried, outcome)
            if again is None or not await self._context.may_make(len(attempts)):
                return target, replace(outcome, attempts=attempts)
            if taught:
                self._caller.health.reserve(target)  # asked at once in the way that its refusal has taught
            else:
                tried.append(again)
            target = again

    async def _again(self, tried: Sequence[Target], outcome: Outcome) -> Target | None:
        """Where the same model is called once more, after the wait that this takes; None: not again."""
        failed, retry = tried[-1], len(tried) - 1
        if retry >= self._context.plan.same_model_retries or not outcome.can_fall_back:
            return None
        other = self._elsewhere(tried, outcome)
        if other is not None:
            return other
        wait_s, health = self._wait_s(outcome, retry), self._caller.health
        # Its rate limit is what the wait is for; a broken one or a refused key is not called again.
        if wait_s is None or health.why_not(failed, cooling=False) is not None:
            return None
        if not await self._waited(failed, wait_s):
            return None
        health.reserve(failed)
        return failed

    async def _waited(self, target: Target, wait_s: float) -> bool:
        """Wait before a repeat; false where none may be made, or where another call was asked for a longer wait."""
        caller, health = self._caller, self._caller.health
        until = health.asked_until(target)
        if until > health.clock() + wait_s or not caller.budget.try_spend() or not await caller.sleep(wait_s):
            return False
        return health.asked_until(target) <= until

    def _elsewhere(self, tried: Sequence[Target], outcome: Outcome) -> Target | None:
        failed, context, caller = tried[-1], self._context, self._caller
        if not speaks_of_deployment(outcome.attempts[-1]) or context.remaining_s() <= 0.0:
            return None
        begun = context.sink is not None and context.sink.transcript.started
        if begun and outcome.transient and caller.health.why_not(failed) is None:
            return None  # who wrote the part that the client has is the likeliest to write it again
        deployments = [target.deployment for target in tried]
        return caller.balancer.elsewhere(failed, context.deployments(failed.model), deployments)

    def _wait_s(self, outcome: Outcome, retry: int) -> float | None:
        if not outcome.transient:
            return None
        wait_s = same_model_wait_s(retry, outcome.retry_after_s, random.random())  # noqa: S311 - jitter, not secrecy
        return wait_s if wait_s is not None and wait_s < self._context.remaining_s() else None
