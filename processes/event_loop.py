"""An event loop on a thread of its own, for a synchronous process that uses asynchronous adapters."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, TypeVar

from modelpilot.errors import DependencyUnavailable

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for any thread between entering and leaving a `with` block."""

    def __init__(self, name: str, patience_s: float) -> None:
        """`patience_s` bounds every call."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._patience_s = patience_s

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises what it raises, and DependencyUnavailable where it takes too long."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self._patience_s)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise DependencyUnavailable("This took too long, and was given up.") from None
