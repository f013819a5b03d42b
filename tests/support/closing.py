"""What a closer works with, in memory: the ledger's open rows, and a Temporal that hands out first tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from modelpilot.errors import DependencyUnavailable
from modelpilot.requests.outcome import Outcome
from modelpilot.requests.records import OpenRequest, RequestKey
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.wire.jsonb import dump
from tests.support.fakes import opened
from tests.support.routing_samples import NOW, plan, request, spec

DONE = Outcome("completed", "sim/a", "simulator", answer={"choices": []}, finish_reason="stop")


def accepted(name: str = "r1") -> RouteRequestInput:
    """A request of gw-1."""
    return request(plan(spec()), request_id=name)


@dataclass
class FakeOpenRequests:
    """Rows that several closers may claim. `running_long` has those that run, and should be seen running."""

    rows: dict[RequestKey, OpenRequest] = field(default_factory=dict)
    running_long: set[RequestKey] = field(default_factory=set)
    claimed: set[RequestKey] = field(default_factory=set)
    closed: list[list[RequestKey]] = field(default_factory=list)
    down: bool = False
    failure: Exception | None = None  # of the next claim
    close_failures: int = 0

    def _check(self) -> None:
        if self.down:
            raise DependencyUnavailable("Postgres is away")

    def add(self, name: str = "r1", *, ended: bool = True, handed_over: bool = False, alive: bool = True) -> RequestKey:
        """A row that is due."""
        made = accepted(name)
        row = OpenRequest(made.key, dump(made), owner_alive=alive, handed_over=handed_over, accepted_at=NOW)
        self.rows[made.key] = row
        self.running_long.add(made.key)
        if ended:
            self.end(made.key)
        return made.key

    def end(self, key: RequestKey, outcome: Outcome = DONE) -> None:
        """Its terminal row is there."""
        self.rows[key] = replace(self.rows[key], outcome=outcome, completed_at=NOW + 1.0, prompt_hash="hash")

    def lose_owner(self, key: RequestKey) -> None:
        """Its gateway has died."""
        self.rows[key] = replace(self.rows[key], owner_alive=False)

    async def claim(self, limit: int) -> list[RequestKey]:
        self._check()
        due = [key for key, row in self.rows.items() if row.outcome is not None or key in self.running_long]
        mine = [key for key in due if key not in self.claimed][:limit]
        self.claimed.update(mine)
        if self.failure is not None:  # behind the commit: nobody hears what was claimed
            failure, self.failure = self.failure, None
            raise failure
        return mine

    async def let_go(self) -> None:
        self._check()
        self.claimed.clear()

    async def read(self, keys: Sequence[RequestKey]) -> list[OpenRequest]:
        self._check()
        return [self.rows[key] for key in keys if key in self.rows]

    async def changed(self, keys: Sequence[RequestKey]) -> list[RequestKey]:
        self._check()
        rows = [self.rows[key] for key in keys if key in self.rows]
        return [row.key for row in rows if row.outcome is not None or row.handed_over or not row.owner_alive]

    async def note_handed_over(self, key: RequestKey) -> None:
        self._check()
        self.rows[key] = replace(self.rows[key], handed_over=True)

    async def close(self, keys: Sequence[RequestKey]) -> None:
        self._check()
        if keys and self.close_failures > 0:
            self.close_failures -= 1
            raise DependencyUnavailable("Postgres is away for a moment")
        for key in keys:
            self.rows.pop(key, None)
        if keys:
            self.closed.append(list(keys))


@dataclass
class Workflow:
    """One execution. `token` of its first task, None where a worker has it or had it."""

    token: bytes | None
    closed: bool = False
    completed: OpenRequest | None = None  # what a closer completed it with


@dataclass
class FakeFirstTasks:
    """Temporal for closers: one workflow per request, whose first task belongs to whoever has its newest token."""

    workflows: dict[RequestKey, Workflow] = field(default_factory=dict)
    starts: list[tuple[RequestKey, bool]] = field(default_factory=list)  # and whether eagerly
    renewed: list[RequestKey] = field(default_factory=list)
    given_away: list[RequestKey] = field(default_factory=list)
    looks: int = 0
    down: bool = False
    at_once = 0
    most_at_once = 0

    def __post_init__(self) -> None:
        self.gate = opened()

    def _check(self) -> None:
        if self.down:
            raise DependencyUnavailable("Temporal does not answer")

    def end(self, key: RequestKey) -> None:
        """A worker completes the workflow, or somebody terminates it."""
        workflow = self.workflows.setdefault(key, Workflow(None))
        workflow.token, workflow.closed = None, True

    def time_out(self, key: RequestKey) -> None:
        """Nobody renewed the first task: a worker gets it."""
        self.workflows[key].token = None

    async def start(self, key: RequestKey, request: bytes, read: RouteRequestInput, *, eager: bool = True) -> bytes:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            self._check()
        finally:
            self.at_once -= 1
        assert read.key == key, "the input is that of the row"
        self.starts.append((key, eager))
        token = f"{key.request_id}#1".encode()
        workflow = self.workflows.setdefault(key, Workflow(token if eager else None))
        return (workflow.token or b"") if eager else b""

    def _mine(self, token: bytes) -> Workflow | None:
        return next((each for each in self.workflows.values() if each.token == token), None)

    async def renew(self, token: bytes) -> bytes:
        self._check()
        workflow = self._mine(token)
        if workflow is None:
            return b""
        name, _, number = token.decode().rpartition("#")
        workflow.token = f"{name}#{int(number) + 1}".encode()
        self.renewed += [key for key, each in self.workflows.items() if each is workflow]
        return workflow.token

    async def hand_over(self, token: bytes) -> None:
        self._check()
        workflow = self._mine(token)
        if workflow is not None:
            workflow.token = None
            self.given_away += [key for key, each in self.workflows.items() if each is workflow]

    async def complete(self, token: bytes, request: RouteRequestInput, ended: OpenRequest) -> bool:
        self._check()
        workflow = self._mine(token)
        if workflow is None:
            return False
        workflow.token, workflow.closed, workflow.completed = None, True, ended
        return True

    async def is_closed(self, key: RequestKey) -> bool:
        self._check()
        self.looks += 1
        return key in self.workflows and self.workflows[key].closed
