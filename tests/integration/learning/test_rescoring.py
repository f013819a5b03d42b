"""Batch re-scoring on real Temporal, Postgres and Milvus, with the simulator as judge."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from temporalio import workflow

from modelpilot import names
from modelpilot.learning.quality import FEEDBACK_PRECISION, JUDGE_PRECISION
from modelpilot.learning.refit import RefitInput, RefitResult
from modelpilot.learning.rescoring import RescoreProgress
from tests.support.rescoring import RIGHT, WRONG, Learning, learning, rescoring_worker
from tests.support.world import eventually

JUDGE = {"sources": ("checks", "feedback", "judge"), "judge_model": "sim/large", "judge_budget_usd": 1.0,
         "judge_rate_per_minute": 60_000.0}  # fmt: skip


@workflow.defn(name=names.REFIT_WORKFLOW, sandboxed=False)
class Refit:
    """Stands in for the refit: what it is told is in its history."""

    @workflow.run
    async def run(self, told: RefitInput) -> RefitResult:
        """End at once."""
        return RefitResult(accepted=len(told.user_id or ""))


@pytest.fixture
async def there(
    migrated_url: str, temporal_address: str, milvus_uri: str, simulator_url: str
) -> AsyncIterator[Learning]:
    async with learning(migrated_url, temporal_address, milvus_uri, simulator_url) as stores:
        yield stores


@pytest.fixture
async def worked(there: Learning) -> AsyncIterator[Learning]:
    async with rescoring_worker(there, [Refit]):
        yield there


async def test_feedback_reaches_the_points(worked: Learning) -> None:
    """What people said is in Postgres at once and, after a job, in the vectors that decisions look at."""
    await worked.add("good")
    await worked.add("bad")
    await worked.add("silent")
    await worked.rate("good", 1.0)
    await worked.rate("bad", 0.0)
    assert (await worked.quality("good"))[:2] == (1.0, "feedback")
    assert (await worked.points())["good"] == (None, 0.0)
    state = await worked.run()
    assert state.status == "completed"
    assert state.progress == RescoreProgress(done=3, total=3, scored=2)
    assert await worked.points() == {"good": (1.0, 1.0), "bad": (0.0, 1.0), "silent": (None, 0.0)}


async def test_a_point_is_the_mean_of_its_requests(worked: Learning) -> None:
    """One prompt asked three times is one point; requests that this job does not touch count as they are."""
    for name, score in (("a", 1.0), ("b", 0.5)):
        await worked.add(name, prompt="same")
        await worked.rate(name, score)
    await worked.add("c", prompt="same", quality=0.0)
    await worked.run(model="sim/small")
    quality, count = (await worked.points())["c"]
    assert quality == pytest.approx(0.5)
    assert count == 3.0


async def test_a_passed_check_counts_less_than_a_person(worked: Learning) -> None:
    """It proves the form of an answer only: in the mean over a prompt's requests it has a quarter of their weight."""
    await worked.add("checked", prompt="same", quality=1.0)
    await worked.add("rated", prompt="same")
    assert await worked.points() == {"rated": (1.0, 0.25)}
    await worked.rate("rated", 0.0)
    await worked.run()
    assert (await worked.points())["rated"] == pytest.approx((0.2, 1.25))


async def test_the_vectors_hear_of_a_new_source(worked: Learning) -> None:
    """Feedback that says what the check said changes no value, and yet counts."""
    await worked.add("a", quality=1.0)
    await worked.rate("a", 1.0)
    await worked.run()
    assert await worked.points() == {"a": (1.0, 1.0)}


async def test_stored_texts_are_checked_again(worked: Learning) -> None:
    """Better checks reach old answers: what was recorded as good is found to be a refusal."""
    await worked.add("refused", text="I'm sorry, but I can't help with that.", quality=1.0)
    await worked.add("no-text", quality=1.0)
    await worked.run(sources=("checks",))
    assert await worked.quality("refused") == (0.0, "checks", 0.8)
    assert (await worked.quality("no-text"))[0] == 1.0


async def test_a_judge_grades_stored_answers(worked: Learning) -> None:
    """Right answers get good marks and wrong ones bad marks; both weigh as stated beside what people say."""
    await worked.add("right", text=RIGHT)
    await worked.add("wrong", text=WRONG)
    await worked.add("no-text")
    await worked.rate("wrong", 1.0)
    state = await worked.run(**JUDGE)
    right, source, _ = await worked.quality("right")
    assert (right or 0.0) > 0.8
    assert source == "judge"
    wrong = {row["request_id"]: row["score"] for row in await worked.judgements()}["wrong"]
    expected = (FEEDBACK_PRECISION + JUDGE_PRECISION * wrong) / (FEEDBACK_PRECISION + JUDGE_PRECISION)
    assert wrong < 0.3
    combined, source, _ = await worked.quality("wrong")
    assert combined == pytest.approx(expected, abs=1e-5)
    assert source == "feedback+judge"
    assert (state.judged, state.progress.scored, state.progress.done) == (2, 2, 3)
    assert (await worked.quality("no-text"))[0] is None


async def test_judging_is_paid_and_recorded_once(worked: Learning) -> None:
    """A second job calls nobody for what the first one has paid for; its costs are on record, for whom it was."""
    for number in range(5):
        await worked.add(f"r{number}", text=RIGHT, tags={"team": f"t{number}"}, end_user="ann", session_id="s")
    first = await worked.run(**JUDGE)
    second = await worked.run(**JUDGE)
    rows = await worked.judgements()
    assert {(row["status"], row["calls"]) for row in rows} == {("done", 1)}
    assert first.judge_cost_usd == pytest.approx(sum(row["cost_usd"] for row in rows))
    assert first.judge_cost_usd > 0.0
    paid = await worked.database.fetch_all("SELECT * FROM requests WHERE purpose = 'judge'")
    assert [row["model"] for row in paid] == ["sim/large"] * len(rows)
    assert sorted(row["tags"]["team"] for row in paid) == [f"t{number}" for number in range(5)]
    assert {(row["end_user"], row["session_id"]) for row in paid} == {("ann", "s")}
    assert sum(row["cost_usd"] for row in paid) == pytest.approx(first.judge_cost_usd)
    assert (second.judged, second.judge_cost_usd, second.progress.scored) == (0, 0.0, 5)


async def test_the_budget_ends_judging_not_the_job(worked: Learning) -> None:
    """Spending stays within the budget; rows that nobody judged are scored by what is known."""
    for number in range(30):
        await worked.add(f"r{number:02}", text=RIGHT, age_s=100.0 - number)
    await worked.rate("r29", 0.25)
    state = await worked.run(**{**JUDGE, "judge_budget_usd": 0.015})
    assert 0 < state.judged < 30
    assert state.judge_cost_usd <= 0.015
    assert (state.status, state.progress.judge_stopped) == ("completed", "budget")
    assert state.progress.done == 30
    assert (await worked.quality("r29"))[:2] == (0.25, "feedback")


async def test_nobody_judges_itself(worked: Learning) -> None:
    """A judge's own answers are left out unless that is asked for, also under another name in the catalogue."""
    alias = {"id": "alias", "provider": "simulator", "providerModel": "large"}
    query = "INSERT INTO models (user_id, id, body) VALUES (%s, 'alias', %s::jsonb)"
    await worked.database.fetch_all(query, (worked.user, json.dumps(alias)))
    await worked.add("own", text=RIGHT, model="sim/large")
    await worked.add("own-alias", text=RIGHT, model="alias")
    await worked.add("other", text=RIGHT)
    await worked.run(**JUDGE)
    assert [row["request_id"] for row in await worked.judgements()] == ["other"]
    await worked.run(**JUDGE, allow_self_judging=True)
    assert [row["request_id"] for row in await worked.judgements()] == ["other", "own", "own-alias"]


async def test_a_judge_that_fails_is_given_up(worked: Learning) -> None:
    """A broken judge is asked a few times, not for every row; the job says so and goes on."""
    for number in range(20):
        await worked.add(f"r{number:02}", text=RIGHT, age_s=100.0 - number)
    spec = {"id": "broken", "provider": "simulator", "providerModel": "large+500x99", "capabilities": ["chat"],
            "costPerInputToken": 1e-6, "costPerOutputToken": 1e-6}  # fmt: skip
    query = "INSERT INTO models (user_id, id, body) VALUES (%s, 'broken', %s::jsonb)"
    await worked.database.fetch_all(query, (worked.user, json.dumps(spec)))
    state = await worked.run(**{**JUDGE, "judge_model": "broken"})
    rows = await worked.judgements()
    assert (state.status, state.progress.judge_stopped, state.judged) == ("completed", "provider", 0)
    assert 5 <= len(rows) < 20
    assert {row["status"] for row in rows} == {"failed"}
    assert state.judge_cost_usd == 0.0


async def test_a_sample_is_exact_and_filters_hold(worked: Learning) -> None:
    """`sampleSize`, `model`, `routerId` and times choose the rows, and nothing else is touched."""
    for number in range(40):
        await worked.add(f"s{number}", quality=1.0)
    await worked.add("old", age_s=10_000.0)
    await worked.add("large", model="sim/large")
    assert (await worked.run(sample_size=7)).progress == RescoreProgress(7, 7, 7)
    now = time.time()
    assert (await worked.run(model="sim/large")).progress.total == 1
    assert (await worked.run(router_id="other")).progress.total == 0
    assert (await worked.run(from_s=now - 5_000.0)).progress.total == 41
    assert (await worked.run(to_s=now - 5_000.0)).progress.total == 1


async def test_another_tenants_rows_are_never_touched(worked: Learning) -> None:
    """A job sees its owner's rows only."""
    await worked.add("mine")
    me, worked.user = worked.user, "somebody-else"
    await worked.add("theirs")
    await worked.rate("theirs", 1.0)
    worked.user = me
    assert (await worked.run()).progress.total == 1
    worked.user = "somebody-else"
    assert (await worked.points())["theirs"] == (None, 0.0)


async def test_a_paused_job_waits_and_goes_on(there: Learning) -> None:
    """Pause holds the job behind its slice; resume carries it to its end from where it stood."""
    async with rescoring_worker(there, [Refit], judge_round_s=1.0):
        for number in range(8):
            await there.add(f"r{number}", text=RIGHT, age_s=100.0 - number)
        handle = await there.start(**{**JUDGE, "judge_rate_per_minute": 240.0})
        await eventually(there.judgements, "nobody judges")
        await handle.signal(names.PAUSE_JOB)

        async def waits() -> bool:
            described = await handle.describe()
            return not described.raw_description.pending_activities

        await eventually(waits, "the job does not wait")
        before = len(await there.judgements())
        state = await there.state(handle)
        assert state.status == "running"
        await handle.signal(names.RESUME_JOB)
        result = await handle.result()
        assert (result.status, result.progress.done) == ("completed", 8)
        assert before < len(await there.judgements()) == 8


async def test_a_canceled_job_stops_and_keeps_what_it_did(worked: Learning) -> None:
    """Cancel cuts the slice under way short; costs of calls under way are on record, and nobody is called later."""
    for number in range(20):
        await worked.add(f"r{number:02}", text=RIGHT, age_s=100.0 - number)
    handle = await worked.start(**{**JUDGE, "judge_rate_per_minute": 60.0})
    await eventually(worked.judgements, "nobody judges")
    await handle.signal(names.CANCEL_JOB)
    assert (await handle.result()).status == "canceled"
    state = await worked.until(handle, "the end is not written", status="canceled")
    rows = await worked.judgements()
    assert 0 < len(rows) < 20
    assert all(row["status"] in ("done", "failed") for row in rows)
    assert state.finished_at is not None


async def test_progress_can_be_asked_for(worked: Learning) -> None:
    """The query `progress` answers after the end, too."""
    await worked.add("a")
    handle = await worked.start()
    await handle.result()
    told = await handle.query(names.JOB_PROGRESS, result_type=RescoreProgress)
    assert told == RescoreProgress(1, 1, 0)


async def test_revised_qualities_are_refitted_and_aggregated(worked: Learning) -> None:
    """The owner's predictors are refitted, and the hours of revised rows are computed again."""
    made = await worked.add("a")
    await worked.rate("a", 1.0)
    await worked.database.fetch_all("DELETE FROM stale_hours")
    handle = await worked.start()
    await handle.result()
    child = worked.client.get_workflow_handle(f"{names.REFIT_SCHEDULE}/{handle.id}/0", result_type=RefitResult)
    assert (await child.result()).accepted == len(worked.user)
    hours = await worked.database.fetch_all("SELECT hour FROM stale_hours WHERE reason = 'revised'")
    assert [row["hour"].timestamp() for row in hours] == [made.created_at // 3600 * 3600]


async def test_feedback_that_comes_while_a_page_is_scored_is_not_lost(worked: Learning) -> None:
    """A row that was rated after it was read keeps its rating; the next job puts it into the vectors."""
    for number in range(3):
        await worked.add(f"r{number}")
    await worked.rate("r0", 0.0)
    handle = await worked.start()
    await asyncio.gather(worked.rate("r0", 1.0), handle.result())
    await worked.run()
    assert (await worked.quality("r0"))[0] == 1.0
    assert (await worked.points())["r0"] == (1.0, 1.0)


async def test_the_simulator_is_called_as_a_provider(worked: Learning) -> None:
    """The judge's call is a chat request over HTTP, with the answer between delimiters."""
    await worked.add("a", text=RIGHT, body={"messages": [{"role": "user", "content": "a-very-rare-question"}]})
    await worked.run(**JUDGE)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{worked.simulator_url}/_sim/calls", params={"tag": "a-very-rare-question"}) as answer,
    ):
        assert (await answer.json())["counts"]["completed"] == 1
