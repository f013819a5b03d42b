"""An upgrade from the version whose workflows joined the gateway: they are closed, and their requests have an end."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus

from cli.migrate import migrate
from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from infra.settings import load_settings
from modelpilot import names
from modelpilot.errors import DependencyUnavailable
from tests.integration.local.test_migrations import OLDEST, load, schema
from tests.support.core import KEYRING, KEYS, A
from tests.support.routing_samples import plan, request
from tests.support.saved_histories import connect
from tests.support.world import eventually


def _environment(database: str, temporal: str, directory: Path) -> dict[str, str]:
    given = {
        "DATABASE_URL": database,
        "TEMPORAL_ADDRESS": temporal,
        "ENCRYPTION_KEYS": KEYS,
        "DATA_DIR": str(directory),
    }
    return {f"MODELPILOT_{name}": value for name, value in given.items()}


def test_what_runs_is_closed(postgres_url: str, temporal_address: str, tmp_path: Path) -> None:
    """A request without a row ends as a failed one, one with a row keeps it, and no workflow stays open."""
    load(postgres_url, OLDEST)

    async def left_by_the_version_before() -> None:
        client = await connect(temporal_address)
        for user, request_id in (("u1", "r0001"), ("u1", "r-unknown")):
            asked = asdict(request(plan(A), user_id=user, request_id=request_id))
            del asked["steps"]
            given = json.loads(json.dumps({**asked, "nonce": "n1"}))
            await client.start_workflow(
                names.ROUTE_REQUEST_WORKFLOW, given, id=f"route/{user}/{request_id}", task_queue="nobody polls this"
            )

        async def listed() -> bool:  # lists lag a little behind starts
            ours = "ExecutionStatus = 'Running' AND TaskQueue = 'nobody polls this'"
            return (await client.count_workflows(ours)).count == 2

        await eventually(listed, "the workflows are not listed")

    asyncio.run(left_by_the_version_before())
    settings = load_settings(_environment(postgres_url, temporal_address, tmp_path))
    said = list(migrate(settings, postgres_url))
    assert said[0] == "workflows of the version before: 2 ended, 1 of their requests recorded as failed"

    async def check() -> None:
        client = await connect(temporal_address)
        for request_id in ("r0001", "r-unknown"):
            described = await client.get_workflow_handle(f"route/u1/{request_id}").describe()
            assert described.status == WorkflowExecutionStatus.TERMINATED
        async with Database(postgres_url) as database:
            ledger = PostgresLedger(database, KEYRING)
            rows = await database.fetch_all("SELECT request_id, status FROM requests ORDER BY request_id")
            assert [(row["request_id"], row["status"]) for row in rows] == [
                ("r-unknown", "failed"),
                ("r0001", "completed"),
                ("r0007", "failed"),
            ]
            await ledger.close()

    asyncio.run(check())
    assert list(migrate(settings, postgres_url)) == ["schema: up to date"]


def test_without_temporal_nothing_changes(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upgrade can be repeated once it is there."""
    monkeypatch.setattr("infra.temporal.client.connect.__defaults__", (0.5,))
    load(postgres_url, OLDEST)
    before = schema(postgres_url)
    settings = load_settings(_environment(postgres_url, "127.0.0.1:1", tmp_path))
    with pytest.raises(DependencyUnavailable):
        list(migrate(settings, postgres_url))
    assert schema(postgres_url) == before
