"""Predictors and logged decisions on a real Postgres: versions, what is served, who is due, and tenants apart."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.db.engine import Database
from infra.db.learning.decision_log import PostgresDecisionLog
from infra.db.learning.predictors import PostgresPredictors
from infra.db.management.routers import PostgresRouterRepository
from infra.db.requests.ledger import PostgresLedger
from infra.db.routing.notifications import ConfigurationListener
from modelpilot.learning.refit import KEPT_VERSIONS, FittedArtifact
from modelpilot.requests.records import HistoryScope
from tests.support.refit import report
from tests.support.routing_samples import router
from tests.support.samples import NOW, keyring, outcome, record

SCOPE = HistoryScope("alice", "support")
ACCEPTED = FittedArtifact(b"artifact", report())
REFUSED = FittedArtifact(None, report("worse than the global mean"))


@pytest.fixture
def store(database: Database) -> PostgresPredictors:
    return PostgresPredictors(database)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    ledger = PostgresLedger(database, keyring())
    yield ledger
    await ledger.close()


async def test_the_newest_version_is_served_if_it_was_accepted(store: PostgresPredictors) -> None:
    """A refused fit is stored with its reason, and drops the one before it: its choices are not better any more."""
    assert await store.newest(SCOPE) is None
    assert [await store.add(SCOPE, NOW, 100, fit) for fit in (ACCEPTED, REFUSED)] == [1, 2]
    found = await store.newest(SCOPE)
    assert found is not None
    assert (found[0].version, found[0].accepted, found[1]) == (2, False, None)
    assert await store.newest(SCOPE, than=2) is None
    assert await store.add(SCOPE, NOW, 100, ACCEPTED) == 3
    newer = await store.newest(SCOPE, than=1)
    assert newer is not None
    assert (newer[0].version, newer[0].fitted_at, newer[0].rows, newer[1]) == (3, NOW, 100, b"artifact")
    versions = await store.versions(SCOPE)
    assert [(v.version, v.accepted) for v in versions] == [(3, True), (2, False), (1, True)]
    assert versions[1].report["refused_because"] == "worse than the global mean"


async def test_old_versions_go(store: PostgresPredictors) -> None:
    """The newest ones are kept, to look at."""
    for fit in (ACCEPTED, *[REFUSED] * (KEPT_VERSIONS + 3)):
        await store.add(SCOPE, NOW, 100, fit)
    newest = KEPT_VERSIONS + 4
    assert [version.version for version in await store.versions(SCOPE)] == [*range(newest, newest - KEPT_VERSIONS, -1)]


async def test_concurrent_fits_get_versions_of_their_own(store: PostgresPredictors) -> None:
    """The schedule and a person may refit the same router at the same moment."""
    made = await asyncio.gather(*(store.add(SCOPE, NOW, 100, ACCEPTED) for _ in range(8)))
    assert sorted(made) == list(range(1, 9))


async def test_tenants_are_apart(store: PostgresPredictors) -> None:
    """A router of the same name of somebody else has its own predictor, or none."""
    await store.add(SCOPE, NOW, 100, ACCEPTED)
    assert await store.newest(HistoryScope("bob", "support")) is None
    assert await store.versions(HistoryScope("bob", "support")) == []


async def test_a_new_version_is_announced(store: PostgresPredictors, database: Database) -> None:
    """Gateways hear of it, with owner and router."""
    heard: asyncio.Queue[tuple[str | None, str, str]] = asyncio.Queue()

    def callback(kind: str | None, user_id: str = "", subject: str = "") -> None:
        heard.put_nowait((kind, user_id, subject))

    listener = ConfigurationListener(database.url, callback)
    await listener.start()
    await listener.wait_until_listening()
    await store.add(SCOPE, NOW, 100, ACCEPTED)
    assert await asyncio.wait_for(heard.get(), 10.0) == ("predictor", "alice", "support")
    await listener.stop()


async def test_routers_with_new_outcomes_are_due(
    store: PostgresPredictors, database: Database, ledger: PostgresLedger
) -> None:
    """One that has a new outcome since its last fit, and no other; asked for by name, it is due in any case."""
    routers = PostgresRouterRepository(database)
    for owner, name in (("alice", "support"), ("alice", "quiet"), ("bob", "support")):
        await routers.put(owner, router("m").model_copy(update={"id": name}), "key")
    await ledger.record(record("alice", "r1"))
    await ledger.record(record("bob", "r1", router_id="support"))
    await ledger.record(record("alice", "r2", router_id="deleted"))
    assert await store.due(None, None, None, 10) == (SCOPE, HistoryScope("bob", "support"))
    assert await store.due(None, None, None, 1) == (SCOPE,)
    assert await store.due(None, None, SCOPE, 10) == (HistoryScope("bob", "support"),)
    later = await database.fetch_one("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
    assert later is not None
    await store.add(SCOPE, later["now"], 100, REFUSED)
    assert await store.due(None, None, None, 10) == (HistoryScope("bob", "support"),)
    await ledger.record(record("alice", "r3", created_at=later["now"]))
    assert SCOPE in await store.due(None, None, None, 10)
    assert await store.due("alice", None, None, 10) == (HistoryScope("alice", "quiet"), SCOPE)
    assert await store.due("alice", "quiet", None, 10) == (HistoryScope("alice", "quiet"),)
    assert await store.due("bob", "quiet", None, 10) == ()


async def test_logged_decisions_come_back_newest_first(database: Database, ledger: PostgresLedger) -> None:
    """Of this router and tenant, in the range, without the canceled; a fallback's outcome is nobody's."""

    async def keep(name: str, at: float, **changes: Any) -> None:
        plain: dict[str, Any] = {"fallback_used": False, "decision": {"selectedModel": name, "neighbours": [1]}}
        await ledger.record(record("alice", name, created_at=at, **{**plain, **changes}))

    await keep("first", NOW)
    await keep("second", NOW + 1, fallback_used=True)
    await keep("third", NOW + 2, outcome=outcome(status="failed"))
    await keep("gone", NOW + 3, outcome=outcome(status="canceled"))
    await keep("other", NOW + 4, router_id="other")
    await ledger.record(record("bob", "foreign"))
    log = PostgresDecisionLog(database)
    found = await log.decisions(SCOPE, None, None, 10)
    assert [each.decision for each in found] == [{"selectedModel": name} for name in ("third", "second", "first")]
    assert [each.answered_by for each in found] == [None, None, "sim/small"]
    assert (found[2].cost_usd, found[2].quality) == (0.00012, 0.9)
    ranged = await log.decisions(SCOPE, NOW + 1, NOW + 2, 10)
    assert [each.decision["selectedModel"] for each in ranged] == ["second"]
    assert len(await log.decisions(SCOPE, None, None, 2)) == 2


async def test_what_was_seen_of_models(database: Database, ledger: PostgresLedger) -> None:
    """Means over what the model itself answered in this router lately."""
    # Relative to the database's clock, since only the last 90 days count.
    clock = await database.fetch_one("SELECT extract(epoch FROM now())::float8 AS now")
    assert clock is not None
    for number, quality in enumerate((0.5, 1.0, None)):
        made = record(
            "alice",
            f"r{number}",
            created_at=clock["now"],
            fallback_used=False,
            outcome=outcome(quality=quality),
        )
        await ledger.record(made)
    await ledger.record(record("alice", "old", created_at=clock["now"] - 91 * 86_400.0, fallback_used=False))
    found = await PostgresDecisionLog(database).histories(SCOPE, ["sim/small", "sim/large"])
    assert list(found) == ["sim/small"]
    seen = found["sim/small"]
    assert (seen.outcomes, seen.graded, seen.quality, seen.output_tokens) == (3, 2, 0.75, 34.0)
