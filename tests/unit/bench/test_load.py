"""Load: clients that wait, requests by the clock, and waiting for what both leave behind."""

import asyncio
import gc
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from bench.gateway.load import Arrivals, Load, open_loop, undisturbed
from bench.gateway.rounds import all_closed, late_closed
from bench.gateway.targets import BadStatus, Timed
from modelpilot.errors import DependencyUnavailable

NOW = datetime(2030, 1, 1, tzinfo=UTC)


async def answer(prompt: str) -> Timed:
    """What its prompt says: answered, a status, or no answer at all."""
    if prompt == "reset":
        raise aiohttp.ClientConnectionError("reset by peer")
    if prompt == "late":
        raise TimeoutError
    if prompt != "ok":
        raise BadStatus(int(prompt), b"no")
    return Timed(5.0, degraded=True)


async def test_each_arrival_is_counted_once() -> None:
    """A request is answered, refused or broken, never two of them and never nothing."""
    prompts = ["ok", "503", "ok", "503", "reset", "500", "late"]
    arrivals = await open_loop(answer, prompts, per_s=50_000.0)
    assert (len(arrivals.latencies_ms), arrivals.degraded, len(arrivals.late_ms)) == (2, 2, len(prompts))
    assert arrivals.statuses == {503: 2, 500: 1}
    assert arrivals.broken == {"ClientConnectionError: reset by peer": 1, "TimeoutError: ": 1}
    assert 0.0 < arrivals.sent_s <= arrivals.answered_s


async def test_the_clock_does_not_wait_for_answers() -> None:
    """All requests are under way at once, though none has its answer: a closed loop would never send the second."""
    under_way, all_sent = 0, asyncio.Event()

    async def hang(_: str) -> Timed:
        nonlocal under_way
        under_way += 1
        if under_way == 3:
            all_sent.set()
        await all_sent.wait()
        return Timed(1.0)

    arrivals = await open_loop(hang, ["a", "b", "c"], per_s=50_000.0)
    assert len(arrivals.latencies_ms) == 3


def test_a_late_request_has_waited() -> None:
    """Latency begins when a request was due: a generator that is held up must not make the server look quick."""
    arrivals = Arrivals()
    arrivals.answered(Timed(5.0), late_ms=30.0)
    assert arrivals.latencies_ms == [35.0]


async def test_a_steady_rate_is_a_phase_like_others() -> None:
    """A rate's failures are seen in the same place as those of clients that wait."""
    phase = await Load(per_s=50_000.0).run(answer, ["ok", "503", "reset"])
    assert len(phase.latencies_ms) == 1
    assert phase.errors == Counter({"status 503": 1, "ClientConnectionError: reset by peer": 1})
    closed = await Load(clients=2).run(answer, ["ok", "503", "ok"])
    assert (closed.latencies_ms, closed.errors) == ([5.0, 5.0], Counter({"BadStatus: status 503: no": 1}))


def test_the_collector_is_given_back() -> None:
    """Objects of a measured phase must not stay for ever."""
    with undisturbed():
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


class FakeTemporal:
    """Counts of workflows, one (started, running) after the other; the last one stays."""

    def __init__(self, *counts: tuple[int, int]) -> None:
        self._counts, self.asked = list(counts), 0

    async def count_workflows(self, query: str) -> Any:
        """Started ones, or those of them that run; asking for the latter goes on to the next pair."""
        assert "2030-01-01T00:00:00.000+00:00" in query
        started, running = self._counts[0]
        if "Running" not in query:
            self.asked += 1
            if running == 0 and len(self._counts) > 1:
                self._counts.pop(0)
            return SimpleNamespace(count=started)
        if len(self._counts) > 1:
            self._counts.pop(0)
        return SimpleNamespace(count=running)


async def test_workflows_may_start_late() -> None:
    """Nothing runs while the last workflows have not even started: that is not the end."""
    temporal = FakeTemporal((1, 0), (2, 0), (3, 1), (3, 0))
    assert await all_closed(temporal, "W", NOW, 3) == 3  # type: ignore[arg-type]
    assert temporal.asked == 4


async def test_unanswered_requests_have_workflows_too() -> None:
    """With a quiet time, the end is only where no further workflow appears, however few were expected."""
    temporal = FakeTemporal((1, 0), (5, 0))
    assert await all_closed(temporal, "W", NOW, 1, quiet_s=0.05) == 5  # type: ignore[arg-type]


async def test_workflows_that_stay_open_are_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase fails and says how many there were; a run beyond the capacity reports that it is unknown."""
    with pytest.raises(DependencyUnavailable, match="of 3 W, 2 were started"):
        await all_closed(FakeTemporal((2, 1)), "W", NOW, 3, within_s=0.02)  # type: ignore[arg-type]
    monkeypatch.setattr("bench.gateway.rounds.LATE_CLOSED_WITHIN_S", 0.02)
    assert await late_closed(FakeTemporal((3, 1)), "W", NOW, 3) is None  # type: ignore[arg-type]
