"""The re-scoring workflow on a real Temporal server, over steps that only count."""

import pytest
from temporalio.client import Client, ScheduleOverlapPolicy

from infra.crypto.keyring import Keyring, generate_key
from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.learning.rescoring import JudgeReport, RescoreInput, RescoreProgress, RescoreSpec
from tests.support.rescore_runs import END, JUDGED, FakeSteps, job, running
from workflows import schedules


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=data_converter(Keyring([generate_key()])))


async def test_slices_follow_each_other_to_the_end(client: Client) -> None:
    """Every slice is one activity; the end is written once."""
    steps = FakeSteps(slices=3)
    async with running(client, steps, job()) as handle:
        result = await handle.result()
    assert (result.status, result.progress) == ("completed", RescoreProgress(30, 30, 15))
    assert [close.status for close in steps.closed] == ["completed"]


async def test_a_long_job_continues_as_new(client: Client) -> None:
    """Its history stays bounded, and it is opened once."""
    steps = FakeSteps(slices=5)
    async with running(client, steps, job(slices_per_run=2)) as handle:
        assert (await handle.result()).progress.done == 50
    assert len(steps.opened) == 1
    first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    described = await first.describe()
    assert described.status is not None
    assert described.status.name == "CONTINUED_AS_NEW"


async def test_rows_are_scored_as_far_as_they_were_judged(client: Client) -> None:
    """A round's rows are scored behind it; the last slice covers the rest, without a judge."""
    steps = FakeSteps(slices=2, rounds=[JudgeReport(END, 5, 5)])
    async with running(client, steps, job(JUDGED)) as handle:
        await handle.result()
    assert [work.until for work in steps.work] == [END, None]


async def test_waiting_for_the_rate_scores_nothing_early(client: Client) -> None:
    """A round that could not begin a call leaves its rows for the next one."""
    steps = FakeSteps(slices=1, rounds=[JudgeReport(END, 0, 0, wait_s=0.1)])
    async with running(client, steps, job(JUDGED)) as handle:
        await handle.result()
    assert [work.until for work in steps.work] == [None]


async def test_judging_that_stopped_is_not_begun_again(client: Client) -> None:
    """Behind the end of the budget the other rows are scored by what is known, also in the next run."""
    rounds = [JudgeReport(None, 5, 5, stopped="budget"), JudgeReport(None, 5, 5)]
    steps = FakeSteps(slices=3, rounds=rounds)
    async with running(client, steps, job(JUDGED)) as handle:
        assert (await handle.result()).progress.done == 30
    assert len(steps.rounds) == 1


async def test_a_step_that_cannot_be_mended_fails_the_job(client: Client) -> None:
    """The job says that it failed and where, instead of hanging."""
    steps = FakeSteps(broken=True)
    async with running(client, steps, job()) as handle:
        assert (await handle.result()).status == "failed"
    assert [(close.status, close.error) for close in steps.closed] == [("failed", "rescore_slice failed")]


async def test_cancel_cuts_the_slice_short(client: Client) -> None:
    """A slice under way is canceled by its next heartbeat, and the end is written all the same."""
    steps = FakeSteps(hanging=True)
    async with running(client, steps, job()) as handle:
        await steps.begun.wait()
        await handle.signal(names.CANCEL_JOB)
        assert (await handle.result()).status == "canceled"
    assert [close.status for close in steps.closed] == ["canceled"]


async def test_a_canceled_workflow_is_a_canceled_job(client: Client) -> None:
    """Canceled in the Temporal Web UI, it ends as if it had been canceled through the API."""
    steps = FakeSteps(hanging=True)
    async with running(client, steps, job()) as handle:
        await steps.begun.wait()
        await handle.cancel()
        assert (await handle.result()).status == "canceled"
    assert [close.status for close in steps.closed] == ["canceled"]


async def test_a_paused_job_can_be_canceled(client: Client) -> None:
    """Waiting does not make deaf."""
    steps = FakeSteps()
    async with running(client, steps, job(paused=True)) as handle:
        await handle.signal(names.CANCEL_JOB)
        assert (await handle.result()).status == "canceled"
    assert steps.work == []


async def test_a_scheduled_job_is_named_after_its_run(client: Client) -> None:
    """The nightly job looks at the last week of all users and at what is pending, under a name of its own."""
    steps = FakeSteps()
    work = RescoreInput("admin", "", RescoreSpec(), all_users=True, nightly=True)
    async with running(client, steps, work, f"{names.RESCORE_SCHEDULE}-2026-11-23T02:00:00Z") as handle:
        await handle.result()
    opened = steps.opened[0]
    assert opened.job_id == "modelpilot-rescore-nightly-2026-11-23T02:00:00Z"
    assert opened.spec.include_pending
    assert opened.spec.to_s is not None
    assert opened.spec.from_s == pytest.approx(opened.spec.to_s - 7 * 86_400.0)


async def test_the_schedule_says_when_and_how(client: Client) -> None:
    """Nightly, never two at once, made up for when missed; a pause of somebody's outlives an upgrade."""
    wanted = schedules.rescoring()
    handle = client.get_schedule_handle(wanted.id)
    try:
        await schedules.ensure(client, wanted)
        await handle.pause()
        await schedules.ensure(client, schedules.rescoring())
        found = (await handle.describe()).schedule
        assert found.state.paused
        assert found.policy.overlap == ScheduleOverlapPolicy.SKIP
        assert found.policy.catchup_window == schedules.RESCORE_CATCHUP
    finally:
        await handle.delete()
