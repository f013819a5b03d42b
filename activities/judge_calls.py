"""One call to a judge, through the same providers, keys and address rules as any request."""

import asyncio
import secrets
from dataclasses import dataclass

from activities.call_state import CallContext
from activities.model_calls import ModelCaller
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.errors import NotFound
from modelpilot.learning.feedback import StoredText
from modelpilot.learning.judge import (
    CALL_TOTAL_MS,
    MAX_OUTPUT_TOKENS,
    JudgeOutcome,
    JudgeTask,
    judge_body,
    read_verdict,
    same_model,
)
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.pricing import call_cost_usd
from modelpilot.requests.messages import CallPlan
from modelpilot.requests.outcome import Usage
from modelpilot.requests.ports import ConfigurationSource
from modelpilot.requests.records import RequestKey, RouterSnapshot

# Prompts are measured in characters, and some languages have twice as many tokens to them.
_PROMPT_MARGIN = 2.0


@dataclass(frozen=True, slots=True)
class Question:
    """An answer to judge, with all that the call needs. `estimated_usd` is what it costs at most, as far as known."""

    task: JudgeTask
    profile: RequestProfile
    estimated_usd: float


class Judge:
    """A model of the catalogue as a judge for one owner. It decides nothing: it is asked, and answers or does not."""

    def __init__(self, caller: ModelCaller, configuration: ConfigurationSource, snapshot: RouterSnapshot, model: str):
        self._caller, self._configuration = caller, configuration
        self._snapshot, self._model = snapshot, model
        self.spec: ModelSpec = snapshot.models[model]
        self._own: dict[str, bool] = {}

    def question(self, task: JudgeTask, text: StoredText) -> Question | None:
        """The question about an answer; None where there is nothing to judge or no price to keep a budget by."""
        if text.answer is None:
            return None
        structured = "json" in self.spec.capabilities
        body = judge_body(text.body, text.answer, secrets.token_hex(8), structured=structured)
        profile = profile_request(body, ChatBody.model_validate(body))
        most = Usage(int(profile.prompt_tokens * _PROMPT_MARGIN), MAX_OUTPUT_TOKENS)
        cost_usd = call_cost_usd(self.spec, most)
        return None if cost_usd is None else Question(task, profile, cost_usd)

    async def wrote(self, task: JudgeTask) -> bool:
        """Whether the answer is the judge's own, under whatever name in the catalogue."""
        if task.model not in self._own:
            try:
                snapshot = await self._configuration.direct_snapshot(task.user_id, task.model)
                self._own[task.model] = same_model(self.spec, snapshot.models[task.model])
            except NotFound:  # gone from the catalogue: only the name is left to compare
                self._own[task.model] = task.model == self._model
        return self._own[task.model]

    async def ask(self, question: Question) -> JudgeOutcome:
        """Call the judge once. Every end is an outcome, cancellation included, so that its cost can be recorded."""
        plan = CallPlan(model=self._model, specs={self._model: self.spec.to_wire()}, total_ms=CALL_TOTAL_MS)
        task = question.task
        context = CallContext(
            key=RequestKey(task.user_id, f"judge_{task.request_id}"),
            specs=self._snapshot.models,
            profile=question.profile,
            plan=plan,
            deadline=asyncio.get_running_loop().time() + CALL_TOTAL_MS / 1000.0,
            sink=None,
            providers=self._snapshot.providers,
        )
        outcome = await self._caller.first_phase(context)
        verdict = read_verdict(outcome.answer) if outcome.answer is not None else None
        error_type = outcome.error_code or ("unreadable_verdict" if verdict is None else None)
        return JudgeOutcome(verdict, outcome.cost_usd, error_type)


async def open_judge(caller: ModelCaller, configuration: ConfigurationSource, user_id: str, model: str) -> Judge | None:
    """The judge, or None where the catalogue does not have it (any more) or it cannot be called."""
    try:
        snapshot = await configuration.direct_snapshot(user_id, model)
    except NotFound:
        return None
    return None if model in snapshot.unavailable else Judge(caller, configuration, snapshot, model)
