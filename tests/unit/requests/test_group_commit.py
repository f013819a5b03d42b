"""Group commit: callers share writes, get their own results, and one bad row fails alone."""

import asyncio
from collections.abc import Sequence

import pytest

from infra.group_commit import GroupCommitter
from modelpilot.errors import DependencyUnavailable, Overloaded


class Store:
    """Records batches; `gate` holds writes back, and negative items are bad rows."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()
        self.failure: Exception | None = None

    async def write(self, batch: Sequence[int]) -> list[int]:
        self.started.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if any(item < 0 for item in batch):
            raise ValueError("bad row")
        self.batches.append(list(batch))
        return [item * 10 for item in batch]


async def test_an_idle_committer_writes_at_once() -> None:
    """A lone request does not wait for company."""
    store = Store()
    assert await GroupCommitter(store.write, interval_s=3_600.0).submit(1) == 10


async def test_concurrent_items_share_a_write_and_keep_their_results() -> None:
    """Everything that arrives during a write goes into the next one."""
    store = Store()
    store.gate.clear()
    committer = GroupCommitter(store.write, interval_s=0.0)
    first = asyncio.create_task(committer.submit(0))
    await store.started.wait()
    others = [asyncio.create_task(committer.submit(item)) for item in range(1, 50)]
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *others) == [item * 10 for item in range(50)]
    assert [len(batch) for batch in store.batches] == [1, 49]


async def test_a_batch_is_bounded() -> None:
    """A backlog is written in pieces."""
    store = Store()
    committer = GroupCommitter(store.write, batch_size=20, interval_s=0.0)
    await asyncio.gather(*(committer.submit(item) for item in range(50)))
    assert [len(batch) for batch in store.batches] == [20, 20, 10]


async def test_one_bad_row_fails_alone() -> None:
    """Neighbours of a bad row are committed nevertheless."""
    store = Store()
    committer = GroupCommitter(store.write)
    results = await asyncio.gather(*(committer.submit(item) for item in (1, -1, 2)), return_exceptions=True)
    assert results[0] == 10
    assert isinstance(results[1], ValueError)
    assert results[2] == 20


async def test_an_outage_fails_the_batch_and_passes() -> None:
    """All callers hear that Postgres is away, without a repeat per row; later ones succeed."""
    store = Store()
    store.failure = DependencyUnavailable("away", retry_after_s=2.0)
    committer = GroupCommitter(store.write)
    results = await asyncio.gather(*(committer.submit(item) for item in range(3)), return_exceptions=True)
    assert all(isinstance(result, DependencyUnavailable) for result in results)
    store.failure = None
    assert await committer.submit(4) == 40


async def test_the_queue_is_bounded() -> None:
    """A stuck database costs bounded memory."""
    store = Store()
    store.gate.clear()
    committer = GroupCommitter(store.write, capacity=2)
    first = asyncio.create_task(committer.submit(0))
    await store.started.wait()
    waiting = [asyncio.create_task(committer.submit(item)) for item in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await committer.submit(3)
    store.gate.set()
    assert await asyncio.gather(first, *waiting) == [0, 10, 20]


async def test_close_drains_and_then_refuses() -> None:
    """A clean shutdown loses no accepted row."""
    store = Store()
    store.gate.clear()
    committer = GroupCommitter(store.write, batch_size=1, interval_s=0.0)
    accepted = [asyncio.create_task(committer.submit(item)) for item in range(3)]
    await store.started.wait()
    closing = asyncio.create_task(committer.close())
    await asyncio.sleep(0)
    with pytest.raises(DependencyUnavailable):
        await committer.submit(9)
    store.gate.set()
    await closing
    assert await asyncio.gather(*accepted) == [0, 10, 20]


async def test_a_canceled_caller_does_not_disturb_its_neighbours() -> None:
    """A client that goes away leaves the batch intact, its own row included."""
    store = Store()
    store.gate.clear()
    committer = GroupCommitter(store.write)
    leaving, staying = (asyncio.create_task(committer.submit(item)) for item in (1, 2))
    await store.started.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    store.gate.set()
    assert await staying == 20
    assert store.batches == [[1, 2]]


async def test_a_canceled_flusher_leaves_nobody_waiting() -> None:
    """Whatever ends the background task, callers hear of it."""
    store = Store()
    store.gate.clear()
    committer = GroupCommitter(store.write)
    caller = asyncio.create_task(committer.submit(1))
    await store.started.wait()
    flusher = next(task for task in asyncio.all_tasks() if task.get_name() == "group-commit")
    flusher.cancel()
    with pytest.raises(DependencyUnavailable):
        await caller


async def test_a_window_waits_for_company_and_no_longer_than_needed() -> None:
    """Items that come one after the other share a write; a full batch, `drain` and `close` end the wait."""
    store = Store()
    committer = GroupCommitter(store.write, batch_size=2, window_s=3_600.0)
    first = asyncio.create_task(committer.submit(1))
    await asyncio.sleep(0.01)
    assert await committer.submit(2) == 20
    assert await first == 10
    alone = asyncio.create_task(committer.submit(3))
    await asyncio.sleep(0)
    await committer.drain()
    assert await alone == 30
    last = asyncio.create_task(committer.submit(4))
    await asyncio.sleep(0)
    await committer.close()
    assert await last == 40
    assert store.batches == [[1, 2], [3], [4]]


async def test_a_write_may_answer_an_error_for_one_item() -> None:
    """What failed is told to its own caller; the rest of the batch is committed."""

    async def write(batch: Sequence[int]) -> list[int | Exception]:
        return [item if item % 2 else DependencyUnavailable("away") for item in batch]

    committer: GroupCommitter[int, int] = GroupCommitter(write)
    results = await asyncio.gather(*(committer.submit(item) for item in range(3)), return_exceptions=True)
    assert results[1] == 1
    assert [type(results[place]) for place in (0, 2)] == [DependencyUnavailable] * 2
