"""Feeding Temporal from the ledger: every accepted request gets its one workflow, and its row goes when that is closed.

What has ended is closed by its first task; what runs for long is started, so that it can be seen; what has no owner any
more is given to a worker. These are one loop, and each of its steps may be repeated by anybody after a crash.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.ports import FirstTasks, OpenRequests
from modelpilot.requests.records import OpenRequest, RequestKey
from modelpilot.requests.route_request import RouteRequestInput, read_request

log = structlog.get_logger(__name__)

TICK_S = 0.5
CLAIMED_AT_ONCE = 200
MOST_HELD = 20_000  # running requests in memory: a token and a time each
RENEW_AFTER_S = 15.0  # half of a first task's timeout
# Whether a workflow that a worker carries is closed: after this, then after twice as long each time.
ASK_AGAIN_S, ASK_AT_LEAST_S = 1.0, 4.0
AWAY_S = 1.0
# Starts at a time: more while Temporal takes them quickly.
FEWEST_STARTS, MOST_STARTS = 4, 16
QUICK_S, SLOW_S = 0.05, 0.2


@dataclass(slots=True)
class _Held:
    """A row that is this closer's. `token`: of its first task, where we have it."""

    token: bytes = b""
    started: bool = False
    act_at: float = 0.0  # monotonic seconds: when to look at it again, whatever happens
    missed: bool = False  # its workflow was seen closed, and it had not ended
    asked_after_s: float = 0.0


@dataclass(slots=True)
class Pace:
    """How many starts are made at a time."""

    starts: int = FEWEST_STARTS

    def took(self, seconds: float) -> None:
        """Learn from one."""
        if seconds < QUICK_S:
            self.starts = min(self.starts + 1, MOST_STARTS)
        elif seconds > SLOW_S:
            self.starts = max(self.starts // 2, FEWEST_STARTS)


@dataclass(slots=True)
class Closer:
    """One closer. `rows` are the ledger's as it claims them, `tasks` are Temporal's; `end_lost` records a request that
    ended nowhere."""

    rows: OpenRequests
    tasks: FirstTasks
    end_lost: Callable[[RouteRequestInput], Awaitable[None]]
    tick_s: float = TICK_S
    renew_after_s: float = RENEW_AFTER_S
    ask_again_s: float = ASK_AGAIN_S
    clock: Callable[[], float] = time.monotonic
    closed: int = 0
    _unsure: bool = False  # whether a claim may have been made that nobody here knows of
    _held: dict[RequestKey, _Held] = field(default_factory=dict)
    _done: list[RequestKey] = field(default_factory=list)
    _pace: Pace = field(default_factory=Pace)
    _running: set["asyncio.Task[None]"] = field(default_factory=set)

    async def run(self) -> None:
        """Close requests until canceled."""
        try:
            while True:
                began = self.clock()
                try:
                    if self._unsure:
                        await self.rows.let_go()
                        self._unsure = False
                    found = await self.turn()
                except DependencyUnavailable as error:
                    log.warning("closer_waits", error=error.message)
                    found, self._unsure = 0, True
                    await asyncio.sleep(AWAY_S)
                except Exception:
                    # Rows wait while nobody closes them, so this goes on with the next ones.
                    log.exception("closer_failed")
                    found, self._unsure = 0, True
                    await asyncio.sleep(AWAY_S)
                if found < CLAIMED_AT_ONCE:
                    await asyncio.sleep(max(self.tick_s - (self.clock() - began), 0.0))
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def turn(self) -> int:
        """Claim what is due, carry on what is held, and forget what is closed; how many rows were carried on."""
        if len(self._held) < MOST_HELD:
            for key in await self.rows.claim(CLAIMED_AT_ONCE):
                self._held.setdefault(key, _Held())
        due = await self._due()
        try:
            for row in await self.rows.read(due):
                due.remove(row.key)
                await self._carry(row)
            for key in due:  # somebody else has closed it
                self._held.pop(key, None)
            if self._running:
                await asyncio.wait(self._running)
        finally:
            done, self._done = self._done, []
            await self.rows.close(done)
            for key in done:
                self._held.pop(key, None)
            self.closed += len(done)
        return len(done)

    async def _due(self) -> list[RequestKey]:
        """The held rows that there is something to do about, at most as many as are claimed at once."""
        now = self.clock()
        waiting = [key for key, held in self._held.items() if held.started and held.act_at > now]
        changed = set(await self.rows.changed(waiting)) if waiting else set()
        due = [key for key, held in self._held.items() if held.act_at <= now or (key in changed and held.token)]
        return due[:CLAIMED_AT_ONCE]

    async def _carry(self, row: OpenRequest) -> None:
        while len(self._running) >= self._pace.starts:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._carried(row))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _carried(self, row: OpenRequest) -> None:
        held = self._held[row.key]
        began = self.clock()
        try:
            await self._act(row, held, read_request(row.request))
            self._pace.took(self.clock() - began)
        except DependencyUnavailable:
            held.act_at = self.clock() + AWAY_S
        except Exception:
            log.exception("not_closed", request_id=row.key.request_id)
            held.act_at = self.clock() + 60.0

    async def _act(self, row: OpenRequest, held: _Held, request: RouteRequestInput) -> None:
        if not held.token:
            # Also where it was started before: the first task is handed out again to whoever makes the same start.
            held.token = await self.tasks.start(row.key, row.request, request, eager=not row.handed_over)
            held.started = True
        token = held.token
        if row.outcome is not None:
            held.token = b""
            if token and await self.tasks.complete(token, request, row):
                self._done.append(row.key)
            else:
                await self._look(row, held, request)
        elif not row.owner_alive or row.handed_over:
            held.token = b""
            if not row.handed_over:
                await self.rows.note_handed_over(row.key)
            if token:
                await self.tasks.hand_over(token)
            await self._look(row, held, request)
        else:
            now = self.clock()
            if token and held.act_at:
                held.token = await self.tasks.renew(token)
            held.act_at = now + (self.renew_after_s if held.token else self.ask_again_s)

    async def _look(self, row: OpenRequest, held: _Held, request: RouteRequestInput) -> None:
        """Its workflow is a worker's: the row goes when that is seen closed."""
        closed = await self.tasks.is_closed(row.key)
        if closed and row.outcome is None and held.missed:
            # It was terminated from outside. Seen twice, since it may have ended between two looks.
            await self.end_lost(request)
        held.missed = closed and row.outcome is None
        if closed and row.outcome is not None:
            self._done.append(row.key)
        else:
            held.asked_after_s = min(2 * held.asked_after_s or self.ask_again_s, ASK_AT_LEAST_S)
            held.act_at = self.clock() + held.asked_after_s
