"""What a gateway knows of the two stores before a request asks them."""

import asyncio
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from infra.db import health as postgres_health
from infra.db.health import PostgresHealth
from infra.temporal.health import LATE_ANSWERS, TemporalHealth, translated
from modelpilot.errors import DependencyUnavailable, NotFound
from modelpilot.requests.records import Backlog
from tests.support.processes import until

AWAY = DependencyUnavailable("Postgres is not reachable")


class Answers:
    """Gives one answer after the other, the last one again and again; an exception is raised, and None never comes."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Stub:
    """Stands for a database, or for Temporal's client."""

    def __init__(self, *answers: Any) -> None:
        self.check_health = self.backlog = Answers(*answers)
        self.service_client = self


WRITABLE, READ_ONLY = Backlog(), Backlog(writable=False)


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([WRITABLE, AWAY, WRITABLE], [True, False, True]),
        ([READ_ONLY, WRITABLE], [False, True]),
        ([None, WRITABLE, None, None, WRITABLE], [True, True, True, False, True]),
    ],
)
async def test_postgres_is_up_while_it_takes_writes(
    answers: list[Any], seen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused or read-only, it is away at once; one late answer is a busy machine, two in a row are an outage."""
    monkeypatch.setattr(postgres_health, "PROBE_TIMEOUT_S", 0.01)
    health = PostgresHealth(Stub(*answers))
    assert health.up
    assert [await health.probe() for _ in answers] == seen
    assert health.up == seen[-1]


async def test_postgres_is_asked_again_and_again() -> None:
    """What was believed once is not believed for ever."""
    database = Stub(AWAY)
    health = PostgresHealth(database, every_s=0.0)
    watching = asyncio.create_task(health.watch())
    await until(lambda: not health.up)
    database.backlog.answers = [WRITABLE]
    await until(lambda: health.up)
    watching.cancel()


def rpc(status: RPCStatusCode) -> RPCError:
    """A failed call of Temporal."""
    return RPCError("it failed", status, b"")


LATE = rpc(RPCStatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([True, rpc(RPCStatusCode.UNAVAILABLE), True], [True, False, True]),
        ([RuntimeError("never connected"), True], [False, True]),
        ([*[LATE] * LATE_ANSWERS, True], [*[True] * (LATE_ANSWERS - 1), False, True]),
        ([LATE, LATE, True, LATE, LATE], [True] * 5),
    ],
)
async def test_temporal_is_up_while_it_answers(answers: list[Any], seen: list[bool]) -> None:
    """A refused connection is a dead server, also where there never was one; some late answers in a row are, too."""
    health = TemporalHealth(cast(Client, Stub(*answers)))
    assert [await health.probe() for _ in answers] == seen


@pytest.mark.parametrize(
    ("error", "missing", "seen"),
    [
        (RuntimeError("never connected"), "", DependencyUnavailable),
        (LATE, "no workflow", DependencyUnavailable),
        (rpc(RPCStatusCode.NOT_FOUND), "no workflow", NotFound),
        (rpc(RPCStatusCode.NOT_FOUND), "", DependencyUnavailable),
    ],
)
def test_what_fails_in_temporal_is_a_store_that_is_away(error: Exception, missing: str, seen: type[Exception]) -> None:
    """The core knows no gRPC."""
    with pytest.raises(seen), translated(missing):
        raise error


async def test_the_backlog_is_what_was_seen_last() -> None:
    """A ledger that is away leaves it as it was; it is asked on."""
    source = Stub(Backlog(7, 1.5), AWAY)
    health = PostgresHealth(source, every_s=0.0)
    watching = asyncio.create_task(health.watch())
    await until(lambda: source.backlog.asked >= 3)
    assert (health.seen, watching.done()) == (Backlog(7, 1.5), False)
    watching.cancel()


async def test_a_commit_says_that_postgres_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late answers count for nothing while others are written."""
    monkeypatch.setattr(postgres_health, "PROBE_TIMEOUT_S", 0.01)
    health = PostgresHealth(Stub(None))
    for _ in range(3):
        asking = asyncio.create_task(health.probe())
        await asyncio.sleep(0)
        health.wrote()
        assert await asking
    await health.probe()
    assert not await health.probe()
    health.wrote()
    assert health.up
