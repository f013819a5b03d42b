"""The vector history while its Milvus Lite server is frozen, killed or not there: deadlines, recovery."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.records import HistoryScope
from tests.support.samples import new_history, point, unit


class Server:
    """A Milvus Lite process of its own, to be frozen, killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._data_dir = data_dir
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        program = str(Path(sys.executable).parent / "milvus-lite")
        where = ["--data-dir", str(self._data_dir), "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen([program, "server", *where], stdout=subprocess.DEVNULL)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "milvus")
    yield made
    made.kill()


async def answered(call: Callable[[], object], within_s: float = 30.0) -> object:
    """Repeat an async call until it stops raising DependencyUnavailable."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await call()  # type: ignore[misc]
            except DependencyUnavailable as error:
                await asyncio.sleep(min(error.retry_after_s or 0.0, 0.05))


async def test_a_frozen_or_restarted_milvus_costs_no_more_than_the_deadline(
    server: Server, scope: HistoryScope, collection: str
) -> None:
    """Frozen: queries fail within the deadline, then at once. Back again, or killed and restarted: it recovers."""
    history = new_history(server.uri, collection, deadline_ms=100.0)
    await answered(history.open)
    await answered(lambda: history.store(point(scope, "p", "r1")))
    await history.flush()
    assert len(await answered(lambda: history.query(scope, unit(0), 5))) == 1  # type: ignore[arg-type]
    server.signal(signal.SIGSTOP)
    took_ms = []
    for _ in range(6):
        begun = time.perf_counter()
        with pytest.raises(DependencyUnavailable):
            await history.query(scope, unit(0), 5)
        took_ms.append((time.perf_counter() - begun) * 1_000)
    assert max(took_ms) < 200
    assert min(took_ms) < 5  # during the cool-down nobody waits
    server.signal(signal.SIGCONT)
    assert len(await answered(lambda: history.query(scope, unit(0), 5))) == 1  # type: ignore[arg-type]
    server.kill()
    with pytest.raises(DependencyUnavailable):
        await history.query(scope, unit(0), 5)
    server.start()
    assert len(await answered(lambda: history.query(scope, unit(0), 5))) == 1  # type: ignore[arg-type]
    await answered(lambda: history.store(point(scope, "q", "r2")))
    assert await answered(lambda: history.count(scope)) == 2
    await history.close()


async def test_nobody_listening_is_told_within_the_deadline(scope: HistoryScope) -> None:
    """A server that accepts and says nothing, or is not there at all, does not hold up a query or the start."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel accepts, and nobody ever reads
        closed.bind(("127.0.0.1", 0))
        for port in (silent.getsockname()[1], closed.getsockname()[1]):
            history = new_history(f"http://127.0.0.1:{port}", "nowhere", deadline_ms=25.0)
            begun = time.perf_counter()
            with pytest.raises(DependencyUnavailable):
                await history.query(scope, unit(0), 5)
            assert (time.perf_counter() - begun) < 0.2
            await history.close()
