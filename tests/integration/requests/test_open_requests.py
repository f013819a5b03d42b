"""The rows between a request's acceptance and its closed workflow."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.db.requests.housekeeping import Housekeeping
from infra.db.requests.leases import PostgresLeases
from infra.db.requests.ledger import PostgresLedger
from infra.db.requests.open_requests import OpenRequests
from modelpilot.requests.records import RequestKey
from modelpilot.requests.route_request import RouteRequestInput
from modelpilot.wire.jsonb import dump
from tests.support.core import A
from tests.support.routing_samples import plan, request
from tests.support.samples import attempt, record, table_text

SECRET = "the secret of the prompt"


def asked(number: int = 1, **changes: object) -> RouteRequestInput:
    """An accepted request of gateway `gw-1`."""
    plain = request(plan(A), {"messages": [{"role": "user", "content": SECRET}]}, request_id=f"r{number}")
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def leases(database: Database) -> PostgresLeases:
    """The gateway and two closers, which have been there for long."""
    leases = PostgresLeases(database, lease_seconds=15.0)
    for instance in ("gw-1", "c-1", "c-2"):
        await leases.register(instance, "localhost")
    await database.fetch_all("UPDATE instances SET kept_since = kept_since - interval '1 hour'")
    return leases


@pytest.fixture
def rows(database: Database, keys: Keyring, leases: PostgresLeases) -> OpenRequests:
    """What the first closer sees."""
    return OpenRequests(database, keys, "c-1")


@pytest.fixture
def others(database: Database, keys: Keyring, leases: PostgresLeases) -> OpenRequests:
    """What the second closer sees."""
    return OpenRequests(database, keys, "c-2")


async def _age(database: Database) -> None:
    await database.fetch_all("UPDATE open_requests SET accepted_at = accepted_at - interval '2 s'")


async def test_accepted_once_by_whoever_comes_first(ledger: PostgresLedger) -> None:
    """The same process may repeat itself; another one is too late, also after the end."""
    assert await ledger.accept(asked())
    assert await ledger.accept(asked())
    assert not await ledger.accept(asked(owner="gw-2"))
    assert await ledger.is_open(asked().key)
    await ledger.record(record(request_id="r2", user_id="alice"))
    assert not await ledger.accept(asked(2))
    assert not await ledger.is_open(asked(2).key)


async def test_of_concurrent_acceptances_one_wins(ledger: PostgresLedger) -> None:
    """Also within one statement."""
    results = await asyncio.gather(*(ledger.accept(asked(owner=f"gw-{number % 4}")) for number in range(40)))
    assert any(results)
    winners = {f"gw-{number % 4}" for number, won in enumerate(results) if won}
    assert len(winners) == 1


async def test_a_row_is_encrypted_and_bound_to_its_place(
    database: Database, ledger: PostgresLedger, rows: OpenRequests, migrated_url: str
) -> None:
    """Nobody reads a prompt in the table, nor moves it to another row."""
    await ledger.accept(asked())
    assert SECRET not in table_text(migrated_url, "open_requests")
    await _age(database)
    (row,) = await rows.read(await rows.claim(10))
    assert row.request == dump(asked())
    await database.fetch_all("UPDATE open_requests SET request_id = 'moved'")
    assert await rows.read([RequestKey("alice", "moved")]) == []


async def test_due_is_what_has_ended_or_runs_for_a_second(
    database: Database, ledger: PostgresLedger, rows: OpenRequests
) -> None:
    """A young one is left alone."""
    await ledger.accept(asked(1))
    await ledger.accept(asked(2))
    assert await rows.claim(10) == []
    await ledger.record(record(request_id="r2"))
    assert await rows.claim(10) == [RequestKey("alice", "r2")]
    await _age(database)
    assert await rows.claim(10) == [RequestKey("alice", "r1")]


async def test_accepted_and_ended_in_one_statement(ledger: PostgresLedger, rows: OpenRequests) -> None:
    """A provider may be quicker than a commit, and Postgres may have been away when the request came."""
    await asyncio.gather(ledger.accept(asked(1)), ledger.record(record(request_id="r1")))
    await ledger.record(record(request_id="r2"), None, asked(2))
    keys = sorted(await rows.claim(10), key=lambda key: key.request_id)
    assert [key.request_id for key in keys] == ["r1", "r2"]
    found = await rows.read(keys)
    assert all(row.outcome is not None and row.outcome.status == "completed" for row in found)
    assert all(row.completed_at == record().completed_at for row in found)


async def test_each_row_has_one_closer(
    database: Database, ledger: PostgresLedger, rows: OpenRequests, others: OpenRequests
) -> None:
    """Two that ask at once share the rows; those of a dead one come to the other."""
    await asyncio.gather(*(ledger.accept(asked(number)) for number in range(60)))
    await _age(database)
    claimed: Sequence[list[RequestKey]] = await asyncio.gather(*(each.claim(10) for each in (rows, others) * 4))
    keys = [key for part in claimed for key in part]
    assert len(keys) == len(set(keys)) == 60
    await database.fetch_all("UPDATE instances SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE id = 'c-1'")
    taken = await others.claim(100)
    assert sorted(key.request_id for key in taken) == sorted(key.request_id for part in claimed[::2] for key in part)


async def test_what_is_let_go_may_be_claimed_again(
    ledger: PostgresLedger, rows: OpenRequests, others: OpenRequests
) -> None:
    """A claim whose end nobody heard of holds up no row."""
    await ledger.accept(asked())
    await ledger.record(record(request_id="r1"))
    assert await others.claim(10) == [asked().key]
    await rows.let_go()
    assert await rows.claim(10) == []
    await others.let_go()
    assert await rows.claim(10) == [asked().key]


async def test_what_a_closer_should_look_at_again(
    database: Database, ledger: PostgresLedger, leases: PostgresLeases, rows: OpenRequests
) -> None:
    """Held rows that ended, were handed over, or lost their owner."""
    for number in (1, 2, 3):
        await ledger.accept(asked(number))
    await ledger.accept(asked(4, owner="gw-2"))
    await _age(database)
    keys = await rows.claim(10)
    assert {key.request_id for key in await rows.changed(keys)} == {"r4"}
    await ledger.record(record(request_id="r1"))
    assert await ledger.hand_over(asked(2).key, (attempt(),))
    assert {key.request_id for key in await rows.changed(keys)} == {"r1", "r2", "r4"}
    found = {row.key.request_id: row for row in await rows.read(keys)}
    assert found["r2"].handed_over
    assert [row.owner_alive for _, row in sorted(found.items())] == [True, True, True, False]
    assert len(await ledger.find_attempts(asked(2).key)) == 1


async def test_after_an_outage_owners_are_believed_alive(
    database: Database, ledger: PostgresLedger, leases: PostgresLeases, rows: OpenRequests
) -> None:
    """Nobody could renew a lease meanwhile."""
    await ledger.accept(asked())
    await _age(database)
    keys = await rows.claim(10)
    await database.fetch_all("UPDATE instances SET heartbeat_at = heartbeat_at - interval '1 hour'")
    await leases.heartbeat("c-1")
    assert [row.owner_alive for row in await rows.read(keys)] == [True]


async def test_closing_forgets_and_lets_bodies_expire(
    database: Database, ledger: PostgresLedger, rows: OpenRequests
) -> None:
    """What a recovery may need stays as long as the row is open, and its retention begins at the end."""
    await ledger.accept(asked())
    await ledger.put_body(asked().key, b"{}")
    await ledger.record(record(request_id="r1"))
    await database.fetch_all("UPDATE payloads SET expires_at = now() - interval '1 hour'")
    assert (await Housekeeping(database).sweep()).payloads == 0
    assert (await rows.backlog()).rows == 1
    await rows.close([asked().key])
    assert (await rows.backlog()).rows == 0
    assert not await ledger.is_open(asked().key)
    assert await ledger.get_body(asked().key) == b"{}"
    await rows.close([asked().key])


async def test_the_backlog_has_an_age(database: Database, ledger: PostgresLedger, rows: OpenRequests) -> None:
    """That of its oldest row."""
    assert (await rows.backlog()).age_s == 0.0
    await ledger.accept(asked())
    await _age(database)
    found = await rows.backlog()
    assert found.rows == 1
    assert 2.0 <= found.age_s < 60.0


async def test_a_second_end_changes_nothing(ledger: PostgresLedger, rows: OpenRequests, database: Database) -> None:
    """A process that comes back late does not open what was closed."""
    await ledger.accept(asked())
    await ledger.record(record(request_id="r1"))
    await rows.close([asked().key])
    assert not await ledger.record(record(request_id="r1"), None, asked())
    assert (await rows.backlog()).rows == 0
