"""The judging step of batch re-scoring: a round of calls within budget, rate and time."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from temporalio import activity

from activities.jobs.heartbeats import heartbeats
from activities.requests.call import CallContext, ModelCaller
from activities.requests.recording import paid_record
from modelpilot import names
from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.errors import NotFound
from modelpilot.learning.feedback import StoredText, TextStore
from modelpilot.learning.judge import (
    CALL_TOTAL_MS,
    MAX_FAILURES_IN_A_ROW,
    MAX_OUTPUT_TOKENS,
    JudgementLedger,
    JudgeOutcome,
    JudgeTask,
    Pacer,
    judge_body,
    read_verdict,
    same_model,
)
from modelpilot.learning.rescoring import JudgeReport, RescoreInput, RescoreJobs, SliceInput
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.pricing import call_cost_usd
from modelpilot.requests.outcome import Usage
from modelpilot.requests.ports import ConfigurationSource, Ledger
from modelpilot.requests.records import RequestKey, RequestRecord, RouterSnapshot
from modelpilot.requests.route_request import CallPlan

log = structlog.get_logger(__name__)

ROUND_ROWS = 50
ROUND_S = 10.0
CONCURRENCY = 4
HEARTBEAT_S = 2.0
# A judge whose ratio is not learnt yet may count so many tokens to one of ours.
_PROMPT_MARGIN = 1.5


@dataclass(frozen=True, slots=True)
class Question:
    """An answer to judge, with all that the call needs. `estimated_usd` is what it costs at most, as far as known."""

    task: JudgeTask
    profile: RequestProfile
    estimated_usd: float


class Judge:
    """A model of the catalogue as a judge for one owner, called through the same providers, keys and address rules as
    any request. It decides nothing: it is asked, and answers or does not."""

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
        kind = self._snapshot.kind_of(self.spec.provider)
        tokens = self._caller.ratios.measure(task.user_id, profile.size, self.spec, kind).prompt_tokens
        most = Usage(int(tokens * _PROMPT_MARGIN), MAX_OUTPUT_TOKENS)
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

    async def ask(self, question: Question) -> tuple[JudgeOutcome, RequestRecord]:
        """Call the judge once. Every end is an outcome, cancellation included, with the row that has its cost."""
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
        began = time.time()
        outcome = await self._caller.first_phase(context)
        verdict = read_verdict(outcome.answer) if outcome.answer is not None else None
        error_type = outcome.error_code or ("unreadable_verdict" if verdict is None else None)
        # A row for each call: one that a crash made us repeat was paid twice. What was said is no one's to read there.
        key = RequestKey(task.user_id, f"judge_{secrets.token_hex(16)}")
        attempts = tuple(replace(attempt, message=None) for attempt in outcome.attempts)  # they may quote the text
        paid = replace(outcome, answer=None, quality=None, attempts=attempts)
        whose: dict[str, Any] = {"tags": dict(task.tags), "end_user": task.end_user, "session_id": task.session_id}
        return JudgeOutcome(verdict, outcome.cost_usd, error_type), paid_record(key, "judge", paid, began, **whose)


async def open_judge(caller: ModelCaller, configuration: ConfigurationSource, user_id: str, model: str) -> Judge | None:
    """The judge, or None where the catalogue does not have it (any more) or it cannot be called."""
    try:
        snapshot = await configuration.direct_snapshot(user_id, model)
    except NotFound:
        return None
    return None if model in snapshot.unavailable else Judge(caller, configuration, snapshot, model)


class JudgeActivities:
    """`judge_slice`: reserve, call, record, each committed before the next: a crash repeats no call whose outcome is
    known, and one that is not known only when it must have ended, in a later job."""

    def __init__(
        self,
        jobs: RescoreJobs,
        ledger: JudgementLedger,
        texts: TextStore,
        caller: ModelCaller,
        configuration: ConfigurationSource,
        rows: Ledger,
        round_s: float = ROUND_S,
    ) -> None:
        self._jobs, self._ledger, self._texts, self._rows = jobs, ledger, texts, rows
        self._caller, self._configuration = caller, configuration
        self._round_s = round_s

    @activity.defn(name=names.JUDGE_SLICE)
    async def judge_slice(self, work: SliceInput) -> JudgeReport:
        """Judge up to ROUND_ROWS answers behind the job's position, for `round_s`. Raises DependencyUnavailable."""
        async with heartbeats(HEARTBEAT_S):
            report = await self._round(work.job)
        if report.stopped is not None:
            await self._jobs.stop_judging(work.job.user_id, work.job.job_id, report.stopped)
        return report

    async def _round(self, job: RescoreInput) -> JudgeReport:
        state = await self._jobs.job(job.user_id, job.job_id)
        judge = await open_judge(self._caller, self._configuration, job.user_id, job.spec.judge_model or "")
        if judge is None:
            return JudgeReport(None, stopped="provider")
        tasks = await self._ledger.tasks(job, state, ROUND_ROWS)
        spent = await self._ledger.spent(job)
        pacer = Pacer(job.spec.judge_rate_per_minute, spent.since_last_s, time.monotonic())
        round_ = Round(job, judge, self._ledger, self._texts, self._rows, pacer, spent.cost_usd, self._round_s)
        await round_.run(tasks)
        if len(round_.handled) == len(tasks) < ROUND_ROWS or round_.stopped is not None:
            until = None
        else:
            until = round_.handled[-1].position if round_.handled else state.position
        return JudgeReport(until, len(round_.handled), round_.judged, round_.wait_s, round_.stopped)


class Round:
    """One round. `handled` are the tasks that need no more attention in this job, in order."""

    def __init__(
        self,
        job: RescoreInput,
        judge: Judge,
        ledger: JudgementLedger,
        texts: TextStore,
        rows: Ledger,
        pacer: Pacer,
        spent_usd: float,
        seconds: float,
    ) -> None:
        self._job, self._judge, self._ledger, self._texts, self._rows = job, judge, ledger, texts, rows
        self._pacer, self._spent_usd = pacer, spent_usd
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._calls: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._end = time.monotonic() + seconds
        self.handled: list[JudgeTask] = []
        self.judged = 0
        self.wait_s = 0.0
        self.stopped: str | None = None

    async def run(self, tasks: Sequence[JudgeTask]) -> None:
        """Ask about the tasks in order until something ends the round; wait for the calls that are under way."""
        try:
            texts = await self._texts.read(self._job.user_id, [task.request_id for task in tasks])
            for task in tasks:
                text = texts.get(task.request_id)
                own = not self._job.spec.allow_self_judging and await self._judge.wrote(task)
                question = None if text is None or own else self._judge.question(task, text)
                if question is not None and not await self._begin(question):
                    break
                self.handled.append(task)
            await asyncio.gather(*self._calls)
        finally:
            # Where the job or the worker ends, calls are cut; what they cost by then is still recorded.
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
        self._note_failures()

    async def _begin(self, question: Question) -> bool:
        """Begin a call when rate and concurrency allow it; False where the round ends instead."""
        await self._free.acquire()
        begun = False
        try:
            if self._over(question) or not await self._turn():
                return False
            if await self._ledger.reserve(self._job, question.task, question.estimated_usd):
                self._spent_usd += question.estimated_usd
                self._pacer.began(time.monotonic())
                call = asyncio.create_task(self._call(question))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                begun = True
        finally:
            if not begun:
                self._free.release()
        return True

    def _over(self, question: Question) -> bool:
        self._note_failures()
        if self._spent_usd + question.estimated_usd > self._job.spec.judge_budget_usd:
            self.stopped = self.stopped or "budget"
        return self.stopped is not None or time.monotonic() >= self._end or activity.is_worker_shutdown()

    def _note_failures(self) -> None:
        if self._failures >= MAX_FAILURES_IN_A_ROW:
            self.stopped = "provider"

    async def _turn(self) -> bool:
        """Wait for the rate; False where that takes longer than the round: the workflow then waits, durably."""
        wait_s = self._pacer.wait_s(time.monotonic())
        if time.monotonic() + wait_s > self._end:
            self.wait_s = wait_s
            return False
        await asyncio.sleep(wait_s)
        return True

    async def _call(self, question: Question) -> None:
        try:
            outcome, row = await self._judge.ask(question)
            if outcome.cost_usd is not None:
                self._spent_usd += outcome.cost_usd - question.estimated_usd
            self._failures = 0 if outcome.verdict is not None else self._failures + 1
            self.judged += outcome.verdict is not None
            if row.outcome.attempts:
                await self._rows.record(row)
            await self._ledger.record(self._job, question.task, outcome)
        finally:
            self._free.release()
