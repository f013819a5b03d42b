"""The steps of batch re-scoring: rows page by page, from what was recorded about them to the quality that follows."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from temporalio import activity

from modelpilot import names
from modelpilot.learning.feedback import NO_TRUST, StoredText, TextStore, Trust, trust
from modelpilot.learning.quality import Evidence, answer_quality, combine
from modelpilot.learning.rescoring import (
    CloseInput,
    JobState,
    OutcomePage,
    QualityHistory,
    RescoreInput,
    RescoreJobs,
    RescoreProgress,
    RescoreRows,
    Revision,
    SliceInput,
    SliceReport,
    StoredOutcome,
)

log = structlog.get_logger(__name__)

PAGE_ROWS = 1_000
# A slice is one activity: short enough for a pause to be felt, long enough to cost Temporal nothing.
SLICE_S = 20.0

Group = tuple[str, str, str]  # user, router, model


class RescoreActivities:
    """Each step can be repeated: a page is written where it differs, and counted only from where the job stood."""

    def __init__(self, jobs: RescoreJobs, rows: RescoreRows, texts: TextStore, history: QualityHistory) -> None:
        self._jobs, self._rows, self._texts, self._history = jobs, rows, texts, history

    @activity.defn(name=names.OPEN_RESCORE)
    async def open_rescore(self, job: RescoreInput) -> RescoreProgress:
        """Make the job's row where it is missing, count its rows, draw its sample. Raises DependencyUnavailable."""
        return (await self._jobs.open(job, activity.info().workflow_id or "")).progress

    @activity.defn(name=names.RESCORE_SLICE)
    async def rescore_slice(self, work: SliceInput) -> SliceReport:
        """Score pages from the job's position on, for about SLICE_S. Raises DependencyUnavailable."""
        state = await self._jobs.job(work.job.user_id, work.job.job_id)
        trusted: dict[Group, Trust] = {}
        revised: set[str] = set()
        end = time.monotonic() + SLICE_S
        ahead = asyncio.create_task(self._prepared(work, state, trusted))
        try:
            while True:
                page, revisions, scored = await ahead
                stop = not page.more or time.monotonic() >= end or activity.is_worker_shutdown()
                if not stop:  # the vector store is slow: meanwhile the next page is read and scored
                    ahead = asyncio.create_task(self._prepared(work, replace(state, position=page.next), trusted))
                await self._write(revisions)
                revised.update(revision.row.user_id for revision in revisions)
                state = await self._jobs.advance(state, page.next, len(page.rows), scored)
                activity.heartbeat(state.progress.done)
                if stop or state.position != page.next:  # elsewhere: another try of this slice has overtaken us
                    finished = not page.more and state.position == page.next
                    return SliceReport(state.progress, finished, tuple(sorted(revised)))
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    @activity.defn(name=names.CLOSE_RESCORE)
    async def close_rescore(self, close: CloseInput) -> RescoreProgress:
        """Write how the job ended, and let what it wrote be found quickly. Raises DependencyUnavailable."""
        state = await self._jobs.close(close)
        if state.progress.scored:
            await self._history.flush()
        log.info("rescore_closed", job=state.id, status=state.status, done=state.progress.done, cost=_cost(state))
        return state.progress

    async def _prepared(
        self, work: SliceInput, state: JobState, trusted: dict[Group, Trust]
    ) -> tuple[OutcomePage, list[Revision], int]:
        """The next page, its rows whose quality is another now, and how many of its rows have one at all."""
        page = await self._rows.page(work.job, state, work.until, PAGE_ROWS)
        rows, texts = page.rows, await self._read(work.job, page.rows)
        for row in rows:
            if row.opinions and _group(row) not in trusted:
                trusted[_group(row)] = trust(await self._rows.totals(*_group(row)))
        scored = [revision(row, trusted.get(_group(row), NO_TRUST), texts.get(row.request_id)) for row in rows]
        changes = [each for each in scored if changed(each)]
        return page, changes, sum(each.quality is not None for each in scored)

    async def _read(self, job: RescoreInput, rows: Sequence[StoredOutcome]) -> Mapping[str, StoredText]:
        ids = [row.request_id for row in rows if row.has_text] if "checks" in job.spec.sources else []
        return await self._texts.read(rows[0].user_id, ids) if ids else {}

    async def _write(self, revisions: Sequence[Revision]) -> None:
        """The vector history first: until Postgres has the new values, a repeat finds the same rows to do."""
        if revisions:
            worth = [each for each in revisions if revalued(each)]
            for scope, updates in (await self._rows.point_updates(worth)).items():
                await self._history.update_quality(scope, updates)
            await self._rows.write(revisions)


def revision(row: StoredOutcome, trusted: Trust, text: StoredText | None) -> Revision:
    """What the row is worth by all that is known; its checks are made again where its text is there."""
    checks = row.checks if text is None or text.answer is None else answer_quality(text.body, text.answer)
    feedback, voices = _heard(row, trusted)
    return Revision(row, combine(Evidence(checks, feedback, row.judge, voices)), checks)


def changed(revised: Revision) -> bool:
    """Whether anything has to be written for this row."""
    row, quality = revised.row, revised.quality
    now = (quality and quality.value, quality and quality.source, revised.checks)
    return row.pending or now != (row.quality, row.quality_source, row.checks)


def revalued(revised: Revision) -> bool:
    """Whether the vector history has to be updated: it has the value, and by its source how much that counts."""
    row, quality = revised.row, revised.quality
    now = (quality and quality.value, quality and quality.source)
    return now != (row.quality, row.quality_source) or (row.pending and quality is not None)


def _heard(row: StoredOutcome, trusted: Trust) -> tuple[float | None, float]:
    """What people say, each tempered, and how many voices that is."""
    if not row.opinions:
        return None, 0.0
    scores = [trusted.tempered(each.api_key, each.source, each.score) for each in row.opinions]
    voices = sum(trusted.shares.get((each.api_key, each.source), 1.0) for each in row.opinions)
    return sum(scores) / len(scores), voices


def _group(row: StoredOutcome) -> Group:
    return row.user_id, row.router_id, row.model


def _cost(state: JobState) -> float:
    return round(state.judge_cost_usd, 6)
