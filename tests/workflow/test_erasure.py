"""The workflow that erases, on a real Temporal server, with its activities swapped by name."""

import pytest
from temporalio.client import Client

from infra.crypto.keyring import Keyring, generate_key
from infra.temporal.codec import data_converter
from modelpilot import names
from modelpilot.requests.erasure import EraseProgress, EraseReport
from tests.support.erase_runs import JOB, FakeErasing, running

HALF = EraseReport(EraseProgress(10, 20), finished=False)


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=data_converter(Keyring([generate_key()])))


async def test_a_job_goes_on_until_nothing_is_left(client: Client) -> None:
    """Slice by slice, waiting for requests that still run; then it is closed, once."""
    waiting = EraseReport(EraseProgress(10, 20), finished=False, waiting=True)
    steps = FakeErasing([HALF, waiting])
    async with running(client, steps, JOB) as handle:
        assert await handle.result() == EraseProgress(20, 20)
        assert await handle.query(names.JOB_PROGRESS, result_type=EraseProgress) == EraseProgress(20, 20)
    assert steps.slices == 3
    assert [(close.status, close.error) for close in steps.closed] == [("completed", None)]


async def test_a_job_that_cannot_go_on_is_closed_as_failed(client: Client) -> None:
    """Its owner hears which step it was."""
    steps = FakeErasing(broken=True)
    async with running(client, steps, JOB) as handle:
        await handle.result()
    assert [(close.status, close.error) for close in steps.closed] == [("failed", "erase_slice failed")]
