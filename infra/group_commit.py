"""Group commit: callers that come at the same time share one write."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
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

    def resolve(self, result: Result | Exception) -> None:
        """Tell the caller, unless it has gone away."""
        if self.done.done():
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class GroupCommitter(Generic[Item, Result]):
    """Collects items and hands them to `write`, which commits them together and returns one result per item, in order;
    an exception among the results is raised to the caller of that item.

    Items wait up to `window_s` for company, hence an idle committer without a window writes at once. While a write
    runs, new items wait for the next one, which starts at the earliest `interval_s` after the one before. Nothing waits
    behind a full batch of `batch_size` items, the most that are written together. A batch that fails is written again
    item by item, once, so that a bad item fails alone; DependencyUnavailable fails the whole batch, since repeating
    helps none.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        batch_size: int = 200,
        window_s: float = 0.0,
        interval_s: float = 0.003,
        capacity: float = math.inf,
    ) -> None:
        self._write = write
        self._batch_size = batch_size
        self._window_s, self._interval_s = window_s, interval_s
        self._capacity = capacity
        self._waiting: deque[_Submission[Item, Result]] = deque()
        self._hurry = asyncio.Event()  # a batch is full, or somebody waits for the end
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """Return after the commit, with this item's own result. A caller that is canceled meanwhile does not take its
        item back. Raises Overloaded (queue full), DependencyUnavailable (also after `close`), or the item's error."""
        if self._closed:
            raise DependencyUnavailable("this process is shutting down", retry_after_s=_RETRY_AFTER_S)
        if len(self._waiting) >= self._capacity:
            raise Overloaded("too many writes are waiting", retry_after_s=_RETRY_AFTER_S)
        submission = _Submission[Item, Result](item, asyncio.get_running_loop().create_future())
        self._waiting.append(submission)
        if len(self._waiting) >= self._batch_size:
            self._hurry.set()
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_all(), name="group-commit")
        return await submission.done

    async def drain(self) -> None:
        """Return when everything that waits is written or failed."""
        if self._flusher is not None:
            self._hurry.set()
            await asyncio.shield(self._flusher)

    async def close(self) -> None:
        """Refuse new items and return when all accepted ones are written or failed."""
        self._closed = True
        await self.drain()

    async def _flush_all(self) -> None:
        loop = asyncio.get_running_loop()
        batch: list[_Submission[Item, Result]] = []
        not_before = 0.0
        try:
            while self._waiting:
                await self._wait_until(max(not_before, loop.time() + self._window_s))
                not_before = loop.time() + self._interval_s
                batch = [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]
                await self._commit(batch)
        finally:
            self._flusher = None
            self._abandon(batch)

    async def _wait_until(self, time: float) -> None:
        """Wait for company until this time of the event loop, or until it is known that none has to be waited for."""
        if len(self._waiting) < self._batch_size and time > asyncio.get_running_loop().time():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(time):
                    await self._hurry.wait()
        self._hurry.clear()

    def _abandon(self, batch: list[_Submission[Item, Result]]) -> None:
        """Only where the flusher was canceled: whoever still waits must hear of it instead of waiting for ever."""
        for submission in (*batch, *self._waiting):
            submission.resolve(DependencyUnavailable("the write was canceled"))
        self._waiting.clear()

    async def _commit(self, batch: list[_Submission[Item, Result]]) -> None:
        try:
            results = await self._write([submission.item for submission in batch])
        except DependencyUnavailable as error:
            results = [error] * len(batch)
        except Exception as error:  # noqa: BLE001  (handed to the callers, each of whom raises it)
            if len(batch) > 1:
                for submission in batch:
                    await self._commit([submission])
                return
            results = [error]
        for submission, result in zip(batch, results, strict=True):
            submission.resolve(result)
