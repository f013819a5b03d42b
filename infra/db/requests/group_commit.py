"""Group commit: callers that come at the same time share one transaction."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from modelpilot.errors import DependencyUnavailable, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

_RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class _Submission(Generic[Item, Result]):
    item: Item
    done: asyncio.Future[Result]


class GroupCommitter(Generic[Item, Result]):
    """Collects items and hands them to `write`, which commits them together and returns one result per item, in order.

    An idle committer writes at once. While a write runs, new items wait for the next one, which starts at the earliest
    `interval_s` after the one before and takes at most `batch_size` items. A batch that fails is written again item by
    item, once, so that a bad item fails alone; DependencyUnavailable fails the whole batch, since repeating helps none.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        batch_size: int = 200,
        interval_s: float = 0.003,
        capacity: int = 10_000,
    ) -> None:
        self._write = write
        self._batch_size = batch_size
        self._interval_s = interval_s
        self._capacity = capacity
        self._waiting: deque[_Submission[Item, Result]] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """Return after the commit, with this item's own result. A caller that is canceled meanwhile does not take its
        item back. Raises Overloaded (queue full), DependencyUnavailable (also after `close`), or the item's error."""
        if self._closed:
            raise DependencyUnavailable("this process is shutting down", retry_after_s=_RETRY_AFTER_S)
        if len(self._waiting) >= self._capacity:
            raise Overloaded("too many writes are waiting for Postgres", retry_after_s=_RETRY_AFTER_S)
        submission = _Submission[Item, Result](item, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_all(), name="group-commit")
        return await submission.done

    async def close(self) -> None:
        """Refuse new items and return when all accepted ones are written or failed."""
        self._closed = True
        if self._flusher is not None:
            await asyncio.shield(self._flusher)

    async def _flush_all(self) -> None:
        loop = asyncio.get_running_loop()
        batch: list[_Submission[Item, Result]] = []
        try:
            while self._waiting:
                started = loop.time()
                batch = [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]
                await self._commit(batch)
                if self._waiting and (pause_s := started + self._interval_s - loop.time()) > 0:
                    await asyncio.sleep(pause_s)
        finally:
            self._flusher = None
            self._abandon(batch)

    def _abandon(self, batch: list[_Submission[Item, Result]]) -> None:
        """Only where the flusher was canceled: whoever still waits must hear of it instead of waiting for ever."""
        for submission in (*batch, *self._waiting):
            if not submission.done.done():
                submission.done.set_exception(DependencyUnavailable("the write was canceled"))
        self._waiting.clear()

    async def _commit(self, batch: list[_Submission[Item, Result]]) -> None:
        try:
            results = await self._write([submission.item for submission in batch])
        except DependencyUnavailable as error:
            for submission in batch:
                _fail(submission, error)
        except Exception as error:  # noqa: BLE001  (handed to the callers, each of whom raises it)
            await self._commit_one_by_one(batch, error)
        else:
            for submission, result in zip(batch, results, strict=True):
                if not submission.done.done():
                    submission.done.set_result(result)

    async def _commit_one_by_one(self, batch: list[_Submission[Item, Result]], error: Exception) -> None:
        if len(batch) == 1:
            _fail(batch[0], error)
            return
        for submission in batch:
            try:
                result = (await self._write([submission.item]))[0]
            except Exception as own_error:  # noqa: BLE001  (as above)
                _fail(submission, own_error)
            else:
                if not submission.done.done():
                    submission.done.set_result(result)


def _fail(submission: _Submission[Item, Result], error: Exception) -> None:
    if not submission.done.done():
        submission.done.set_exception(error)
