"""The ledger on a real Postgres: one terminal row, exact answers, client-given names, tenants apart."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infra.crypto.keyring import DecryptionFailed, Keyring, generate_key
from infra.db.engine import Database
from infra.db.management.routers import PostgresRouterRepository
from infra.db.requests.housekeeping import Housekeeping
from infra.db.requests.ledger import PostgresLedger
from infra.db.requests.outbox import Outbox
from modelpilot.requests.erasure import Forgotten
from modelpilot.requests.outcome import Usage
from modelpilot.requests.records import HistoryPoint, HistoryScope, RequestKey, Reservation
from modelpilot.routing.router import Router
from tests.support.samples import attempt, keyring, outcome, record, table_text

KEY = RequestKey("alice", "r1")
NASTY = "emoji 🎈, right-to-left \u202eabc, NUL \0, lone surrogate \ud800, quote \" ' \\ $$ %s {}"


async def test_a_record_comes_back_whole(ledger: PostgresLedger) -> None:
    """The terminal row, its attempts and the answer are what was recorded."""
    wanted = record()
    assert await ledger.record(wanted)
    found = await ledger.find(KEY)
    assert found is not None
    assert found.record == wanted
    assert found.attempts == wanted.outcome.attempts


async def test_the_first_terminal_row_stands(ledger: PostgresLedger) -> None:
    """A second outcome of the same request changes neither the row nor the answer."""
    assert await ledger.record(record())
    late = record(outcome=outcome(status="failed", answer=None, finish_reason=None))
    assert not await ledger.record(late)
    found = await ledger.find(KEY)
    assert found is not None
    assert found.record == record()


async def test_of_concurrent_records_exactly_one_is_first(ledger: PostgresLedger) -> None:
    """Twins in one batch do not both win."""
    results = await asyncio.gather(*(ledger.record(record()) for _ in range(20)))
    assert sum(results) == 1


async def test_many_concurrent_records_are_all_kept(ledger: PostgresLedger, database: Database) -> None:
    """Group commit loses and mixes up nothing."""
    records = [record(request_id=f"r{number}", overhead_ms=float(number)) for number in range(300)]
    assert all(await asyncio.gather(*(ledger.record(wanted) for wanted in records)))
    rows = await database.fetch_all("SELECT request_id, overhead_ms FROM requests")
    assert {row["request_id"]: row["overhead_ms"] for row in rows} == {
        wanted.key.request_id: wanted.overhead_ms for wanted in records
    }


async def test_one_bad_row_does_not_fail_its_neighbours(ledger: PostgresLedger) -> None:
    """A row that Postgres refuses fails alone."""
    bad = record(request_id="bad", config_version=2**40)
    good = [record(request_id=f"good{number}") for number in range(3)]
    results = await asyncio.gather(*(ledger.record(wanted) for wanted in (*good, bad)), return_exceptions=True)
    assert results[:3] == [True, True, True]
    assert isinstance(results[3], Exception)


async def test_any_text_survives(ledger: PostgresLedger, database: Database) -> None:
    """NUL, lone surrogates and friends: exact in the answer, readable in the columns, never an error."""
    told = outcome(answer={"choices": [{"message": {"content": NASTY}}]}, error_message=NASTY, error_code=NASTY)
    wanted = record(outcome=told, tags={NASTY: NASTY}, session_id=NASTY, decision={"why": [NASTY]})
    assert await ledger.record(wanted)
    found = await ledger.find(KEY)
    assert found is not None
    assert found.record.outcome == told
    row = await database.fetch_one("SELECT session_id, tags FROM requests")
    assert row is not None
    assert "🎈" in row["session_id"]
    assert "\0" not in row["session_id"]


async def test_provider_messages_survive_exactly(ledger: PostgresLedger) -> None:
    """A message may quote anything that the provider sent."""
    calls = (attempt(0, status="error", message=NASTY), attempt(1))
    await ledger.record_attempts(KEY, calls)
    assert await ledger.find_attempts(KEY) == calls


@pytest.mark.parametrize(
    "numbers",
    [
        {"overhead_ms": float("nan")},
        {"propensity": float("inf")},
        {"created_at": -5.0, "completed_at": 1e18},
        {"outcome": outcome(usage=Usage(10**30, -1), cost_usd=float("inf"))},
        {"decision": {"huge": 10**400}},
    ],
    ids=lambda numbers: next(iter(numbers)),
)
async def test_absurd_numbers_lose_no_row(ledger: PostgresLedger, numbers: dict[str, Any]) -> None:
    """NaN, infinity and broken clocks cost a figure, not the record."""
    assert await ledger.record(record(**numbers))
    assert await ledger.find(KEY) is not None


async def test_after_retention_the_columns_remain(database: Database, ledger: PostgresLedger) -> None:
    """An expired answer is gone; what was spent is still known."""
    short = PostgresLedger(database, keyring(), retention_hours=-1.0)
    wanted = record(outcome=replace(outcome(), attempts=(attempt(0),)))
    await short.record(wanted)
    await short.put_body(KEY, b"body")
    found = await ledger.find(KEY)
    assert found is not None
    assert found.record == replace(wanted, outcome=replace(wanted.outcome, answer=None))
    assert await short.get_body(KEY) is None
    assert (await Housekeeping(database).sweep()).payloads == 2


async def test_a_revised_quality_shows(database: Database, ledger: PostgresLedger) -> None:
    """Re-scoring changes the row; a retained outcome follows."""
    await ledger.record(record())
    await database.fetch_all("UPDATE requests SET quality = 0.25, quality_source = 'feedback'")
    found = await ledger.find(KEY)
    assert found is not None
    assert found.record.outcome.quality == 0.25


async def test_attempts_are_idempotent(ledger: PostgresLedger) -> None:
    """Recording an attempt again, alone or with the terminal row, keeps the first."""
    await ledger.record_attempts(KEY, [attempt(0)])
    await ledger.record_attempts(KEY, [attempt(0, latency_ms=9.0), attempt(1)])
    assert await ledger.find_attempts(KEY) == (attempt(0), attempt(1))
    await ledger.record_attempts(KEY, [])


async def test_a_body_comes_back(ledger: PostgresLedger) -> None:
    """Large request bodies are kept byte for byte, and may be put again."""
    body = bytes(range(256)) * 4_096
    await ledger.put_body(KEY, body)
    await ledger.put_body(KEY, body)
    assert await ledger.get_body(KEY) == body
    assert await ledger.get_body(RequestKey("alice", "other")) is None


async def test_a_name_is_held_by_the_first(ledger: PostgresLedger) -> None:
    """A repeat learns whose request it joins and with which body that came."""
    first = await ledger.reserve("alice", "idempotency-key", NASTY, b"digest", "r1")
    assert first == Reservation(True, "r1", b"digest")
    again = await ledger.reserve("alice", "idempotency-key", NASTY, b"other", "r2")
    assert again == Reservation(False, "r1", b"digest")


async def test_a_released_name_is_free_and_nobody_elses_is_touched(ledger: PostgresLedger) -> None:
    """Only the request that holds a name can give it back."""
    await ledger.reserve("alice", "request-id", "mine", b"1", "r1")
    await ledger.reserve("bob", "request-id", "mine", b"1", "r1")
    await ledger.release("alice", "request-id", "mine", "r2")
    assert not (await ledger.reserve("alice", "request-id", "mine", b"1", "r1")).fresh
    await ledger.release("alice", "request-id", "mine", "r1")
    assert await ledger.resolve("alice", "mine") is None
    assert (await ledger.reserve("alice", "request-id", "mine", b"2", "r3")).fresh
    assert await ledger.resolve("bob", "mine") == "r1"


async def test_of_concurrent_reservations_one_is_fresh(database: Database, ledger: PostgresLedger) -> None:
    """Fifty at once, over two gateways: one winner, everybody learns the same request id."""
    other = PostgresLedger(database, ledger._keyring)
    calls = [
        (ledger, other)[number % 2].reserve("alice", "request-id", "mine", b"d", f"r{number}") for number in range(50)
    ]
    held = await asyncio.gather(*calls)
    assert sum(one.fresh for one in held) == 1
    assert len({one.request_id for one in held}) == 1


async def test_resolve_prefers_the_idempotency_key(ledger: PostgresLedger) -> None:
    """With both names alike, the key decides."""
    assert await ledger.resolve("alice", "n") is None
    await ledger.reserve("alice", "request-id", "n", b"d", "by-id")
    assert await ledger.resolve("alice", "n") == "by-id"
    await ledger.reserve("alice", "idempotency-key", "n", b"d", "by-key")
    assert await ledger.resolve("alice", "n") == "by-key"


async def test_tenants_are_apart(ledger: PostgresLedger) -> None:
    """Same request ids and names, different owners: nobody sees the other's."""
    await ledger.record(record())
    await ledger.put_body(KEY, b"alice's")
    await ledger.reserve("alice", "request-id", "n", b"d", "r1")
    theirs = RequestKey("bob", "r1")
    assert await ledger.find(theirs) is None
    assert await ledger.find_attempts(theirs) == ()
    assert await ledger.get_body(theirs) is None
    assert await ledger.resolve("bob", "n") is None
    assert (await ledger.reserve("bob", "request-id", "n", b"d", "r9")).fresh
    assert await ledger.record(record(user_id="bob"))


async def test_a_payload_moved_to_another_tenant_does_not_open(database: Database, ledger: PostgresLedger) -> None:
    """Whoever can write the database still cannot read another tenant's answer through the product."""
    await ledger.record(record())
    await ledger.record(record(user_id="bob"))
    await database.fetch_all(
        "UPDATE payloads SET ciphertext = (SELECT ciphertext FROM payloads WHERE user_id = 'alice')"
        " WHERE user_id = 'bob'"
    )
    with pytest.raises(DecryptionFailed):
        await ledger.find(RequestKey("bob", "r1"))


async def test_secrets_are_not_in_clear(migrated_url: str, ledger: PostgresLedger) -> None:
    """Answer, body, provider message and client-given name are nowhere in the tables as text."""
    canary = "canary-5f1e"
    told = outcome(answer={"text": canary}, error_message=canary, attempts=(attempt(0, message=canary),))
    await ledger.record(record(outcome=told))
    await ledger.put_body(KEY, canary.encode())
    await ledger.reserve("alice", "request-id", canary, b"d", "r1")
    for table in ("requests", "attempts", "payloads", "request_names"):
        dump = table_text(migrated_url, table)
        assert "alice" in dump
        assert canary not in dump
        assert canary.encode().hex() not in dump


async def test_a_rotated_keyring_still_reads(database: Database) -> None:
    """Answers and names written before a rotation stay valid after it."""
    old, new = generate_key(), generate_key()
    before, after = (PostgresLedger(database, Keyring(keys)) for keys in ([old], [new, old]))
    await before.record(record())
    await before.reserve("alice", "request-id", "n", b"d", "r1")
    found = await after.find(KEY)
    assert found is not None
    assert found.record == record()
    assert await after.resolve("alice", "n") == "r1"


def _point(number: int) -> HistoryPoint:
    vector = np.arange(4, dtype=np.float32) + number
    scope = HistoryScope("alice", "support")
    return HistoryPoint(f"p{number}", scope, "m", "r1", vector, 1.0, None, 0.5, None, 1, 2, "chat", 5.0)


async def test_the_outbox_keeps_points_until_replayed(database: Database, ledger: PostgresLedger) -> None:
    """A failed replay keeps the points, a successful one drops them, and the order is kept."""
    for number in range(3):
        await ledger.record(record(request_id=f"r{number}"), _point(number))
    assert not await ledger.record(record(request_id="r0"), _point(0)), "learnt from once"
    seen: list[HistoryPoint] = []

    async def refuse(*_: Any) -> None:
        raise RuntimeError("Milvus is away")

    async def accept(points: Any) -> None:
        seen.extend(points)

    outbox = Outbox(database)
    with pytest.raises(RuntimeError):
        await outbox.replay(refuse, refuse, refuse)
    assert await outbox.replay(accept, refuse, refuse, limit=2) == 2
    assert await outbox.replay(accept, refuse, refuse) == 1
    assert await outbox.replay(accept, refuse, refuse) == 0
    assert [point.point_id for point in seen] == ["p0", "p1", "p2"]
    assert seen[2].scope == HistoryScope("alice", "support")
    assert np.array_equal(seen[2].embedding, _point(2).embedding)


async def test_a_deleted_router_takes_what_it_learnt(database: Database, ledger: PostgresLedger) -> None:
    """Points that wait go at once, those in the vector store by the outbox, before those of a new router of its name;
    other routers keep theirs. What was in flight is not learnt. A replay that fails is repeated."""
    routers = PostgresRouterRepository(database)
    await routers.put("alice", Router(id="support", available_models=["m"]), "k")
    other = replace(_point(1), scope=HistoryScope("alice", "other"))
    await ledger.record(record(request_id="r0"), _point(0))
    await ledger.record(replace(record(request_id="r1"), router_id="other"), other)
    await routers.delete("alice", "support", "k")
    await ledger.record(record(request_id="in-flight"), replace(_point(3), request_id="in-flight"))
    await ledger.record(replace(record(request_id="r2"), created_at=time.time()), replace(_point(2), request_id="r2"))
    done: list[Any] = []

    async def store(points: Any) -> None:
        done.extend(point.point_id for point in points)

    async def refuse(*_: Any) -> None:
        raise RuntimeError("Milvus is away")

    async def forget(which: Forgotten) -> None:
        done.append(which)

    outbox = Outbox(database)
    with pytest.raises(RuntimeError):
        await outbox.replay(store, refuse, refuse)
    done.clear()
    assert await outbox.replay(store, forget, refuse) == 4
    assert done == ["p1", Forgotten("alice", "support"), "p2"]
    assert await outbox.replay(store, forget, refuse) == 0
