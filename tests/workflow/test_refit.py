"""The refit workflow on a real Temporal server, over fakes of the stores."""

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner

from infra.crypto.keyring import Keyring, generate_key
from infra.temporal.codec import data_converter
from modelpilot.learning.refit import ROUTERS_PER_RUN, FittedArtifact, RefitInput, RefitResult
from modelpilot.requests.records import HistoryScope
from tests.support.refit import FakeFitter, FakePredictorStore, FakeSource, report, start, steps, training_rows, worker
from workflows import refit as workflow
from workflows import schedules

SUPPORT = HistoryScope("alice", "support")
Source = Callable[[], FakeSource]


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=data_converter(Keyring([generate_key()])))


async def run(
    client: Client,
    store: FakePredictorStore,
    work: RefitInput,
    source: FakeSource | None = None,
    fitter: FakeFitter | None = None,
    limit: int = ROUTERS_PER_RUN,
    **options: Any,
) -> RefitResult:
    queue = f"refit-{secrets.token_hex(4)}"
    activities = steps(source or FakeSource(training_rows(60)), store, fitter or FakeFitter(), limit)
    async with worker(client, activities, queue, **options):
        return await (await start(client, work, queue)).result()


async def test_one_router_is_fitted_and_reported(client: Client) -> None:
    """Asked for one router: its new version is stored, and the report says what it was made from."""
    store = FakePredictorStore([SUPPORT, HistoryScope("bob", "support")])
    result = await run(client, store, RefitInput("alice", "support"))
    assert (result.accepted, result.refused, result.skipped) == (1, 0, 0)
    assert result.report is not None
    assert (result.report.status, result.report.version, result.report.rows) == ("accepted", 1, 120)
    assert list(store.kept) == [SUPPORT]


async def test_a_refused_fit_is_kept_as_such(client: Client) -> None:
    """It has a version and a reason, no artifact, and what was served before is not any more."""
    store = FakePredictorStore([SUPPORT])
    await run(client, store, RefitInput("alice", "support"))
    bad = FakeFitter(FittedArtifact(None, report("worse than the global mean")))
    result = await run(client, store, RefitInput("alice", "support"), fitter=bad)
    assert result.report is not None
    assert (result.report.status, result.report.version) == ("refused", 2)
    assert result.report.reason == "worse than the global mean"
    served = await store.newest(SUPPORT)
    assert served is not None
    assert (served[0].version, served[1]) == (2, None)


async def test_few_outcomes_are_not_fitted(client: Client) -> None:
    """A router at its beginning is left to its priors, and the report says how many outcomes there are."""
    store = FakePredictorStore([SUPPORT])
    result = await run(client, store, RefitInput("alice", "support"), FakeSource(training_rows(10)))
    assert result.report is not None
    assert (result.report.status, result.report.reason) == ("skipped", "20 stored outcomes, 50 are needed")
    assert store.kept == {}


async def test_a_router_that_cannot_be_fitted_keeps_no_other_from_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others are done, and then the run fails, so that somebody looks."""
    monkeypatch.setattr(workflow.FIT_RETRIES, "initial_interval", timedelta(milliseconds=10))
    store = FakePredictorStore([HistoryScope("alice", name) for name in ("a", "b", "c")])
    source = FakeSource(training_rows(60), broken=frozenset({"b"}))
    with pytest.raises(WorkflowFailureError) as failed:
        # A sandbox has a copy of the module, unpatched.
        await run(client, store, RefitInput(), source, workflow_runner=UnsandboxedWorkflowRunner())
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.message) == ("RefitIncomplete", "1 routers could not be fitted")
    assert [scope.router_id for scope in store.kept] == ["a", "c"]


async def test_a_long_list_goes_on_as_a_new_run(client: Client) -> None:
    """Every router has its turn, once, however many there are, and no history grows without end."""
    routers = [HistoryScope("alice", name) for name in ("a", "b", "c", "d", "e")]
    store = FakePredictorStore(routers)
    await run(client, store, RefitInput(), limit=2)
    assert {scope.router_id: len(kept) for scope, kept in store.kept.items()} == dict.fromkeys("abcde", 1)


def test_the_schedule_never_runs_twice_at_once() -> None:
    """A slow refit makes the next one be left out."""
    policy = schedules.refits().schedule.policy
    assert policy.overlap.name == "SKIP"
