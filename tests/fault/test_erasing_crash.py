"""kill -9 of the worker in the middle of a job that erases: another one ends it, nothing of it is left or lost."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modelpilot.requests.erasure import EraseInput, EraseProgress
from tests.support.deletion import Deleting, deleting
from tests.support.installation import environment, worker
from tests.support.world import eventually

ROWS = 600


@pytest.fixture
async def there(
    migrated_url: str, temporal_address: str, milvus_uri: str, simulator_url: str
) -> AsyncIterator[Deleting]:
    async with deleting(migrated_url, temporal_address, milvus_uri, simulator_url) as stores:
        yield stores


@pytest.fixture
def variables(
    tmp_path: Path, migrated_url: str, maintained_temporal: str, milvus_uri: str, simulator_url: str
) -> dict[str, str]:
    return environment(tmp_path, migrated_url, maintained_temporal, milvus_uri, SIMULATOR_URL=simulator_url)


@pytest.mark.timeout(300)  # two workers start, and the first one's heartbeat has to run out
async def test_a_killed_worker_leaves_nothing_behind(there: Deleting, variables: dict[str, str]) -> None:
    """Every request is erased and counted once, the sums of money stay, and the person's name is nowhere."""
    user, database = there.stores.user, there.stores.database
    template = await there.add("template", end_user="canary-user")
    await there.settle()
    copied = ", ".join(name for name in await _columns(there) if name != "request_id")
    await database.fetch_all(
        f"INSERT INTO requests (request_id, {copied}) SELECT 'canary-' || n, {copied} "  # noqa: S608 - our own columns
        "FROM requests, generate_series(2, %s) AS n WHERE request_id = %s",
        (ROWS, template.key.request_id),
    )
    before, _ = await there.sums(user)
    job = await there.erasures.add(user, "end_user", "canary-user", "k")
    given = EraseInput(user, job.id)
    await there.temporal.start(given)

    async def some() -> bool:
        return (await there.erasures.job(user, job.id)).progress.done >= 100

    with worker(variables, "first") as first:
        await eventually(some, "nothing is erased")
        first.kill()
        first.wait()
    half = (await there.erasures.job(user, job.id)).progress
    assert 100 <= half.done < ROWS
    with worker(variables, "second"):
        handle = there.stores.client.get_workflow_handle(given.workflow_id, result_type=EraseProgress)
        assert await handle.result() == EraseProgress(ROWS, ROWS)

        async def cleaned() -> bool:
            return not there.found("canary-")

        await eventually(cleaned, "some of it is left")
    assert (await there.erasures.job(user, job.id)).status == "completed"
    raw, hourly = await there.sums(user)
    assert raw == hourly == before


async def _columns(there: Deleting) -> list[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = 'requests'"
    return [str(row["column_name"]) for row in await there.stores.database.fetch_all(query)]


async def test_a_job_that_could_not_be_started_is_started_by_a_worker(
    there: Deleting, variables: dict[str, str]
) -> None:
    """It was promised when its row was committed, whatever became of the gateway then."""
    job = await there.erasures.add(there.stores.user, "end_user", "nobody", "k")
    await there.stores.database.fetch_all("UPDATE erasures SET created_at = clock_timestamp() - interval '1 minute'")

    async def completed() -> bool:
        return (await there.erasures.job(there.stores.user, job.id)).status == "completed"

    with worker(variables, "only"):
        await eventually(completed, "nobody carries it out")
