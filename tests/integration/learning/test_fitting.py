"""Fitting in a process of its own: its result, its failures, its end."""

import asyncio
import multiprocessing
import os
import time

import pytest

from infra.fitting import ProcessFitter, Work, fit_rows
from modelpilot.learning.estimation import FittedPredictor, TrainingRows
from modelpilot.learning.estimation.admission import Rival
from modelpilot.learning.refit import FittedArtifact
from tests.support import refit
from tests.support.world import eventually


def failing(rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
    """A fit with a defect."""
    raise ValueError("singular")


def dying(rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
    """A fit that runs out of memory."""
    os._exit(9)


def endless(rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
    """A fit that takes for ever."""
    while True:
        time.sleep(0.1)


async def test_the_result_is_that_of_a_fit_right_here() -> None:
    """Rows go there and the artifact comes back whole."""
    rows = refit.training_rows(200)
    there, here = await ProcessFitter().fit(rows, 1.0, refit.RIVAL), fit_rows(rows, 1.0, refit.RIVAL)
    assert there.report == here.report
    assert there.artifact is not None
    assert FittedPredictor.from_bytes(there.artifact).models == refit.MODELS


@pytest.mark.parametrize(("work", "said"), [(failing, "ValueError: singular"), (dying, "without a result")])
async def test_a_fit_that_breaks_says_so(work: Work, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A defect and a killed process are errors with a reason, never a wait for ever."""
    with pytest.raises(RuntimeError, match=said):
        await ProcessFitter(work).fit(refit.training_rows(1), 1.0, refit.RIVAL)


@pytest.mark.parametrize("started", [False, True])
async def test_cancelling_ends_the_process(started: bool) -> None:
    """A worker that stops does not leave a fit behind that takes a core, not even one that it was just starting."""
    task = asyncio.create_task(ProcessFitter(endless).fit(refit.training_rows(1), 1.0, refit.RIVAL))
    await eventually(_running if started else _anything, "no process was started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30.0)
    assert multiprocessing.active_children() == []


async def _running() -> bool:
    return bool(multiprocessing.active_children())


async def _anything() -> bool:
    return True
