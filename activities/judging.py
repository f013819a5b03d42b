"""The judging step of batch re-scoring: a round of calls within budget, rate and time."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog
from temporalio import activity

from activities.judge_calls import Judge, Question, open_judge
from activities.model_calls import ModelCaller
from modelpilot import names
from modelpilot.learning.feedback import TextStore
from modelpilot.learning.judge import MAX_FAILURES_IN_A_ROW, JudgementLedger, JudgeTask, Pacer
from modelpilot.learning.rescoring import JudgeReport, RescoreInput, RescoreJobs, SliceInput
from modelpilot.requests.ports import ConfigurationSource

log = structlog.get_logger(__name__)

ROUND_ROWS = 50
ROUND_S = 10.0
CONCURRENCY = 4
_BEAT_EVERY_S = 2.0


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
    ) -> None:
        self._jobs, self._ledger, self._texts = jobs, ledger, texts
        self._caller, self._configuration = caller, configuration

    @activity.defn(name=names.JUDGE_SLICE)
    async def judge_slice(self, told: SliceInput) -> JudgeReport:
        """Judge up to ROUND_ROWS answers behind the job's position, for about ROUND_S. Raises DependencyUnavailable."""
        beating = asyncio.create_task(_beat())
        try:
            report = await self._round(told.job)
        finally:
            beating.cancel()
        if report.stopped is not None:
            await self._jobs.stop_judging(told.job.user_id, told.job.job_id, report.stopped)
        return report

    async def _round(self, job: RescoreInput) -> JudgeReport:
        state = await self._jobs.job(job.user_id, job.job_id)
        judge = await open_judge(self._caller, self._configuration, job.user_id, job.spec.judge_model or "")
        if judge is None:
            return JudgeReport(None, stopped="provider")
        tasks = await self._ledger.tasks(job, state, ROUND_ROWS)
        spent = await self._ledger.spent(job)
        pacer = Pacer(job.spec.judge_rate_per_minute, spent.since_last_s, time.monotonic())
        round_ = Round(job, judge, self._ledger, self._texts, pacer, spent.cost_usd)
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
        pacer: Pacer,
        spent_usd: float,
    ) -> None:
        self._job, self._judge, self._ledger, self._texts = job, judge, ledger, texts
        self._pacer, self._spent_usd = pacer, spent_usd
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._calls: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._end = time.monotonic() + ROUND_S
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
            outcome = await self._judge.ask(question)
            if outcome.cost_usd is not None:
                self._spent_usd += outcome.cost_usd - question.estimated_usd
            self._failures = 0 if outcome.verdict is not None else self._failures + 1
            self.judged += outcome.verdict is not None
            await self._ledger.record(self._job, question.task, outcome)
        finally:
            self._free.release()


async def _beat() -> None:
    with suppress(asyncio.CancelledError):
        while True:
            activity.heartbeat()
            await asyncio.sleep(_BEAT_EVERY_S)
