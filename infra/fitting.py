"""Fits in a process of its own: a fit takes seconds of all of a core, and gives its memory back when it is done."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from modelpilot.learning.estimation import TrainingRows, fit
from modelpilot.learning.estimation.admission import Rival
from modelpilot.learning.refit import FittedArtifact

Work = Callable[[TrainingRows, float, Rival], FittedArtifact]

# More threads gain little on matrices of a few hundred columns, and take the cores from requests.
_THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Spawned, not forked: the worker's threads and connections have no business in there.
_SPAWN = multiprocessing.get_context("spawn")


def fit_rows(rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
    """Fit here and now; `now` is Unix seconds."""
    fitted = fit(rows, now, rival)
    return FittedArtifact(None if fitted.predictor is None else fitted.predictor.to_bytes(), fitted.report)


class ProcessFitter:
    """Implements `Fitter`: one process per fit. An orphan ends with its fit, since nobody reads it."""

    def __init__(self, work: Work = fit_rows) -> None:
        self._work = work

    async def fit(self, rows: TrainingRows, now: float, rival: Rival) -> FittedArtifact:
        """Fit in the process; canceling kills it. Raises RuntimeError where the work broke off."""
        ours, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_run, args=(theirs, self._work, rows, now, rival), daemon=True)
        starting = asyncio.create_task(asyncio.to_thread(_start, process, theirs))
        try:
            await asyncio.shield(starting)
            return await asyncio.to_thread(_receive, ours)
        finally:
            await asyncio.wait({starting})  # a process that is being started can only be killed afterwards
            process.kill()
            await asyncio.to_thread(process.join)
            ours.close()


def _start(process: BaseProcess, theirs: Connection) -> None:
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(_THREADS)
    try:
        process.start()
    finally:
        theirs.close()  # or the end of the process would not end our reading
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _receive(ours: Connection) -> FittedArtifact:
    try:
        result = ours.recv()
    except EOFError as error:
        raise RuntimeError("the process that fitted ended without a result") from error
    if isinstance(result, FittedArtifact):
        return result
    raise RuntimeError(f"the fit failed: {result}")


def _run(theirs: Connection, work: Work, rows: TrainingRows, now: float, rival: Rival) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which ends us
    try:
        theirs.send(work(rows, now, rival))
    except Exception as error:
        theirs.send(f"{type(error).__name__}: {error}")
        raise
