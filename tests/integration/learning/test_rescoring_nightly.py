"""The nightly re-scoring on real Temporal, Postgres and Milvus: each night looks at what the last one has not seen."""

import secrets
from collections.abc import AsyncIterator

import pytest

from modelpilot import names
from modelpilot.learning.rescoring import RescoreInput, RescoreProgress, RescoreResult, RescoreSpec
from tests.support.rescoring import Learning, learning, rescoring_worker

LONG_AGO_S = 7_200.0


@pytest.fixture
async def worked(
    migrated_url: str, temporal_address: str, milvus_uri: str, simulator_url: str
) -> AsyncIterator[Learning]:
    async with learning(migrated_url, temporal_address, milvus_uri, simulator_url) as there, rescoring_worker(there):
        yield there


async def night(worked: Learning) -> RescoreProgress:
    """Run the nightly job to its end, as the schedule does."""
    job = RescoreInput(worked.user, "", RescoreSpec(), all_users=True, nightly=True)
    name = f"nightly-{secrets.token_hex(6)}"
    queue = names.MAINTENANCE_QUEUE
    handle = await worked.client.start_workflow(
        names.RESCORE_WORKFLOW, job, id=name, task_queue=queue, result_type=RescoreResult
    )
    result: RescoreResult = await handle.result()
    assert result.status == "completed"
    return result.progress


async def forget_when(worked: Learning) -> None:
    """All that was said so far was said two hours ago, which no test can wait for."""
    await worked.database.fetch_all("UPDATE feedback SET updated_at = updated_at - interval '2 hours'")


async def test_a_night_does_not_read_again_what_has_not_changed(worked: Learning) -> None:
    """The first night looks at everything of the week, the next at nothing, until there is something new."""
    for name in ("a", "b", "c"):
        await worked.add(name, age_s=LONG_AGO_S)
    await worked.rate("a", 0.25)
    first = await night(worked)
    assert (first.done, first.total) == (3, 3)
    await forget_when(worked)
    assert (await night(worked)).total == 0
    await worked.add("new", age_s=1.0)
    await worked.add("old-but-rated", age_s=30 * 86_400.0)
    await worked.rate("old-but-rated", 1.0)
    third = await night(worked)
    # `a` again: what is said about its model changes how much its rating counts.
    assert (third.done, third.total) == (3, 3)
    assert (await worked.points())["old-but-rated"] == (1.0, 1.0)


async def test_more_ratings_change_what_earlier_ones_count(worked: Learning) -> None:
    """One who says ever more is capped further: rows scored on an earlier night follow, though nobody rated them
    since."""
    for number in range(12):
        await worked.add(f"early{number}", age_s=LONG_AGO_S)
        await worked.rate(f"early{number}", float(number % 2), by="loud")
    await night(worked)
    before = (await worked.quality("early0"))[0]
    await forget_when(worked)
    for number in range(12):
        await worked.add(f"late{number}", age_s=LONG_AGO_S)
        await worked.rate(f"late{number}", 1.0, by="loud")
    await night(worked)
    after = (await worked.quality("early0"))[0]
    assert before is not None
    assert after is not None
    assert 0.0 < before < after
    assert (await worked.points())["early0"][0] == pytest.approx(after)


async def test_a_night_that_failed_does_not_count(worked: Learning) -> None:
    """The window begins at the last night that reached its end."""
    await worked.add("a", age_s=LONG_AGO_S)
    await night(worked)
    await worked.database.fetch_all("UPDATE rescore_jobs SET status = 'failed'")
    assert (await night(worked)).total == 1
