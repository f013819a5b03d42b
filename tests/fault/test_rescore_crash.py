"""kill -9 of the maintenance worker in the middle of a re-scoring job: nothing is scored, counted or paid for twice."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.installation import environment, worker
from tests.support.rescoring import RIGHT, Learning, learning
from tests.support.world import eventually

ROWS = 24
TAG = "crash-question"


@pytest.fixture
async def there(
    migrated_url: str, temporal_address: str, milvus_uri: str, simulator_url: str
) -> AsyncIterator[Learning]:
    async with learning(migrated_url, temporal_address, milvus_uri, simulator_url) as stores:
        yield stores


@pytest.fixture
def variables(
    tmp_path: Path, migrated_url: str, maintained_temporal: str, milvus_uri: str, simulator_url: str
) -> dict[str, str]:
    return environment(tmp_path, migrated_url, maintained_temporal, milvus_uri, SIMULATOR_URL=simulator_url)


async def _calls(there: Learning, tag: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{there.simulator_url}/_sim/calls", params={"tag": tag}) as answer,
    ):
        counts: dict[str, Any] = (await answer.json())["counts"]
        return counts


async def _judge(there: Learning) -> None:
    """A judge that takes its time, so that there is a middle to be killed in."""
    spec = {"id": "slow", "provider": "simulator", "providerModel": "large+latency400",
            "capabilities": ["chat", "json"], "costPerInputToken": 1e-6, "costPerOutputToken": 1e-6}  # fmt: skip
    query = "INSERT INTO models (user_id, id, body) VALUES (%s, 'slow', %s::jsonb)"
    await there.database.fetch_all(query, (there.user, json.dumps(spec)))


async def test_a_killed_worker_scores_and_pays_nothing_twice(there: Learning, variables: dict[str, str]) -> None:
    """Another worker goes on where the job stood: every row is counted once, no answer is judged by two calls, and
    the verdicts that were in by then are kept as they were."""
    await _judge(there)
    for number in range(ROWS):
        body = {"messages": [{"role": "user", "content": f"{TAG}-{number:02}?"}]}
        await there.add(f"r{number:02}", text=RIGHT, body=body, age_s=1_000.0 - number)
        await there.rate(f"r{number:02}", 0.5)
    handle_spec = {"sources": ("checks", "feedback", "judge"), "judge_model": "slow", "judge_budget_usd": 1.0,
                   "judge_rate_per_minute": 60_000.0}  # fmt: skip
    with worker(variables, "first") as first:
        handle = await there.start(**handle_spec)

        async def some() -> bool:
            return sum(bool(row["status"] == "done") for row in await there.judgements()) >= 4

        await eventually(some, "nobody judges")
        first.kill()
        first.wait()
    before = {row["request_id"]: row for row in await there.judgements()}
    unknown = {name for name, row in before.items() if row["status"] == "started"}
    kept = {name: row for name, row in before.items() if row["status"] == "done"}
    assert 4 <= len(kept) < ROWS
    with worker(variables, "second"):
        result = await handle.result()
    after = {row["request_id"]: row for row in await there.judgements()}
    assert (result.status, result.progress.done, result.progress.total) == ("completed", ROWS, ROWS)
    assert {name: after[name] for name in kept} == kept
    assert {name for name, row in after.items() if row["status"] == "started"} == unknown
    assert set(after) == {f"r{number:02}" for number in range(ROWS)}
    assert {row["calls"] for row in after.values()} == {1}
    for number in range(ROWS):
        assert (await _calls(there, f"{TAG}-{number:02}?"))["total"] <= 1
    state = await there.state(handle)
    known = sum(row["cost_usd"] for row in after.values())
    assert state.judge_cost_usd == pytest.approx(known + sum(after[name]["estimated_usd"] for name in unknown))
    assert (await there.quality("r00"))[1] == "feedback+judge"
    for name in unknown:  # nobody knows what became of these calls: other evidence counts, and they are not repeated
        assert (await there.quality(name))[:2] == (0.5, "feedback")


async def test_a_killed_worker_counts_no_row_twice_without_a_judge(there: Learning, variables: dict[str, str]) -> None:
    """Deterministic scoring, too, goes on from the recorded position."""
    rows = 40
    for number in range(rows):
        await there.add(f"d{number:02}", quality=1.0)
        await there.rate(f"d{number:02}", number / rows)
    with worker(variables, "first") as first:
        handle = await there.start()

        async def begun() -> bool:
            return (await there.state(handle)).progress.total > 0

        await eventually(begun, "the job was not opened")
        first.kill()
        first.wait()
    with worker(variables, "second"):
        result = await handle.result()
    assert (result.status, result.progress.done, result.progress.scored) == ("completed", rows, rows)
    assert (await there.quality("d20"))[1] == "checks+feedback"
