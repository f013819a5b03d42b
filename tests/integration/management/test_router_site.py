"""What the pages about routers and jobs read and do, on a real Postgres: figures, tenants apart, roll back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from infra.catalogue.seed import seed_models
from infra.db.engine import Database, SyncPool
from infra.db.learning.predictors import PostgresPredictors
from infra.db.management.changes import PostgresAuditRepository
from infra.db.management.models import PostgresModelRepository
from infra.db.management.routers import PostgresRouterRepository
from infra.db.management.seed import seed_catalogue
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.metrics.site import PostgresSiteReader
from infra.db.routing.notifications import ConfigurationListener
from infra.settings import load_settings
from modelpilot.errors import DependencyUnavailable, InvalidRequest, NotFound
from modelpilot.learning.refit import FittedArtifact
from modelpilot.metrics.jobs import ScheduleFacts
from modelpilot.metrics.requests import AnalyticsScope
from modelpilot.requests.records import HistoryScope
from processes.workbench import LocalWorkbench, open_workbench
from tests.support.aggregation import HOUR, Requests, decision
from tests.support.refit import report
from tests.support.routing_samples import chat_body, router, spec

DAY = AnalyticsScope(None, HOUR.timestamp() - 3_600.0, HOUR.timestamp() + 86_400.0)
SMALL, LARGE = "sim/small", "sim/large"


def of(user_id: str) -> AnalyticsScope:
    """The day of one tenant."""
    return AnalyticsScope(user_id, DAY.start_s, DAY.end_s)


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """A catalogue, and two tenants, each with a router `support`; alice's has three versions."""
    async with Database(migrated_url) as opened:
        await seed_catalogue(opened, seed_models())
        routers = PostgresRouterRepository(opened)
        for exploration, models in ((0.0, [SMALL]), (0.1, [SMALL, LARGE]), (0.2, [SMALL, LARGE])):
            await routers.put("alice", router(*models, exploration=exploration), "key_alice")
        await routers.put("bob", router(LARGE), "key_bob")
        await opened.fetch_all("INSERT INTO users (id, operator) VALUES ('alice', false), ('bob', false)")
        yield opened


@pytest.fixture
async def requests(database: Database) -> AsyncIterator[Requests]:
    """Writes requests."""
    made = Requests(database)
    yield made
    await made.close()


@pytest.fixture
def workbench(database: Database, migrated_url: str) -> Iterator[LocalWorkbench]:
    """The workbench of the site, without Milvus."""
    settings = load_settings(
        {"MODELPILOT_DATABASE_URL": migrated_url, "MODELPILOT_SIMULATOR_URL": "http://127.0.0.1:9"}
    )
    with open_workbench(settings, migrated_url) as opened:
        yield opened


async def test_routers_come_with_their_use(database: Database, requests: Requests, pool: SyncPool) -> None:
    """Requests and costs per owner and router, the same whether from single requests or hourly rows, and over both."""
    await requests.add(HOUR, count=3, cost_usd=0.25)
    await requests.add(HOUR + timedelta(minutes=90), cost_usd=None)
    await requests.add(HOUR, user="bob", count=2, cost_usd=0.5)
    reader = PostgresSiteReader(pool)
    for aggregated in (False, True):
        if aggregated:
            aggregator = PostgresAggregator(database)
            await aggregator.plan()
            for hour in await aggregator.next_hours(1):  # the later one only: parts of both kinds are added up
                await aggregator.aggregate(hour)
        found = await asyncio.to_thread(reader.routers, DAY)
        assert [(one.user_id, one.requests, one.cost_usd, one.unknown_cost) for one in found] == [
            ("alice", 4, 0.75, 1),
            ("bob", 2, 1.0, 0),
        ]
    assert [(one.version, one.body["exploration"]) for one in found] == [(3, 0.2), (1, 0.0)]


async def test_a_tenant_reads_its_own_routers(database: Database, requests: Requests, pool: SyncPool) -> None:
    """Of the same id there are two; each tenant sees one, with its own figures, versions and predictor."""
    await requests.add(HOUR, user="bob", count=2, cost_usd=0.5)
    store = PostgresPredictors(database)
    await store.add(HistoryScope("bob", "support"), 1_000.0, 70, FittedArtifact(b"x", report()))
    await store.add(HistoryScope("bob", "support"), 2_000.0, 80, FittedArtifact(None, report("worse")))
    reader = PostgresSiteReader(pool)
    (mine,) = reader.routers(of("alice"))
    assert (mine.user_id, mine.requests, mine.predictor.version) == ("alice", 0, None)
    (theirs,) = reader.routers(of("bob"))
    assert (theirs.user_id, theirs.requests) == ("bob", 2)
    assert theirs.predictor.version is None  # what was learnt online decides alone
    await store.add(HistoryScope("bob", "support"), 3_000.0, 90, FittedArtifact(b"x", report()))
    (again,) = reader.routers(of("bob"))
    assert (again.predictor.version, again.predictor.fitted_at, again.predictor.rows) == (3, 3_000.0, 90)
    assert (theirs.predictor.refused_at, theirs.predictor.refused_because) == (2_000.0, "worse")
    assert [one.version for one in reader.router_versions("alice", "support")] == [3, 2, 1]
    assert [(one.version, one.made_by) for one in reader.router_versions("bob", "support")] == [(1, "key_bob")]
    assert reader.routers(of("nobody")) == []


async def test_jobs_of_a_tenant_and_of_all(database: Database, requests: Requests, pool: SyncPool) -> None:
    """Everybody sees how far the metrics are; what counts other tenants' requests is for those who see everybody."""
    await requests.add(HOUR, count=3)
    await requests.add(HOUR + timedelta(hours=1), user="bob")
    aggregator = PostgresAggregator(database)
    await aggregator.plan()
    (newest,) = await aggregator.next_hours(1)
    await aggregator.aggregate(newest)
    await PostgresPredictors(database).add(HistoryScope("bob", "support"), 5.0, 70, FittedArtifact(b"x", report()))
    _add_job(database.url, "bob", "rescore-1")
    reader = PostgresSiteReader(pool, schedules=(ScheduleFacts("s", "S", 300.0),))
    everything = reader.jobs(None, 10)
    assert [(one.hour, one.requests) for one in everything.hours] == [(newest, 1)]
    assert everything.progress.aggregated_through is not None
    assert (everything.progress.pending_hours, everything.progress.late_hours) == (1, 1)
    assert everything.export is not None
    assert [(one.user_id, one.id, one.done, one.total) for one in everything.rescores] == [("bob", "rescore-1", 2, 5)]
    assert [(one.user_id, one.version, one.accepted) for one in everything.fits] == [("bob", 1, True)]
    alice = reader.jobs("alice", 10)
    assert (alice.hours, alice.export, alice.fits, alice.rescores) == ((), None, (), ())
    assert alice.progress == everything.progress
    assert alice.schedules == everything.schedules
    assert [one.id for one in reader.jobs("bob", 10).rescores] == ["rescore-1"]


async def test_the_way_back_is_a_new_version(database: Database, workbench: LocalWorkbench, migrated_url: str) -> None:
    """Versions only grow, the audit log names the site's user, and gateways are told at once."""
    heard: list[tuple[str | None, str, str]] = []
    told = asyncio.Event()

    def note(kind: str | None, user_id: str = "", subject: str = "") -> None:
        heard.append((kind, user_id, subject))
        told.set()

    listener = ConfigurationListener(migrated_url, note)
    await listener.start()
    await listener.wait_until_listening()
    assert await asyncio.to_thread(workbench.restore, "alice", "support", 1, "site:ann") == 4
    await asyncio.wait_for(told.wait(), 10.0)
    await listener.stop()
    assert heard == [("router", "alice", "support")]
    stored = await PostgresRouterRepository(database).get("alice", "support")
    assert (stored.version, stored.body.exploration, stored.body.available_models) == (4, 0.0, [SMALL])
    entry = (await PostgresAuditRepository(database).list("alice", None, 1)).items[0]
    assert (entry.actor, entry.action, entry.kind, entry.subject) == ("site:ann", "update", "router", "support")
    assert await asyncio.to_thread(workbench.restore, "alice", "support", 4, "site:ann") == 4  # nothing to change


async def test_what_can_no_longer_be_is_not_restored(database: Database, workbench: LocalWorkbench) -> None:
    """An unknown version, another tenant's, a deleted router, and one whose model is gone: all are refused."""
    models, routers = PostgresModelRepository(database), PostgresRouterRepository(database)
    await models.put("alice", spec("own/model"), "key_alice")
    await routers.put("alice", router("own/model"), "key_alice")
    await routers.put("alice", router(SMALL), "key_alice")
    await models.delete("alice", "own/model", "key_alice")
    for user_id, version, refusal in (("alice", 99, NotFound), ("bob", 3, NotFound), ("alice", 4, InvalidRequest)):
        with pytest.raises(refusal):
            await asyncio.to_thread(workbench.restore, user_id, "support", version, "site:ann")
    await routers.delete("bob", "support", "key_bob")
    with pytest.raises(NotFound):
        await asyncio.to_thread(workbench.restore, "bob", "support", 1, "site:ann")
    assert (await routers.get("alice", "support")).version == 5


async def test_the_sandbox_decides_with_todays_settings(database: Database, workbench: LocalWorkbench) -> None:
    """The decision of the tenant's own router, without Milvus and saying so; prompts that cannot be are refused."""
    found = await asyncio.to_thread(workbench.explain, "alice", "support", chat_body("What is 2 + 2?"))
    assert {one["model"] for one in found["candidates"]} == {SMALL, LARGE}
    assert (found["configVersion"], found["explored"], found["degraded"]) == (3, False, ["vector"])
    with pytest.raises(NotFound):
        await asyncio.to_thread(workbench.explain, "nobody", "support", chat_body())
    with pytest.raises(InvalidRequest):
        await asyncio.to_thread(workbench.explain, "alice", "support", {"messages": []})


async def test_replay_and_frontier_stay_within_tenant_and_range(
    database: Database, requests: Requests, workbench: LocalWorkbench
) -> None:
    """Only the tenant's own decisions, of the range; the replay is the one of the API, with its checks."""
    one = {**decision(), "configVersion": 1, "promptTokens": 5}
    await requests.add(HOUR, count=2, decision=one)
    await requests.add(HOUR + timedelta(days=3), decision=one)
    await requests.add(HOUR, user="bob", count=5, decision=one)
    start, end = HOUR.timestamp(), HOUR.timestamp() + 3_600.0
    assert (await asyncio.to_thread(workbench.frontier, "alice", "support", start, end)).requests == 2
    span = {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in (("from", start), ("to", end))}
    found = await asyncio.to_thread(workbench.replay, "alice", "support", {**span, "objective": {"qualityWeight": 1.0}})
    assert (found["requests"], found["proposed"]["objective"]["qualityWeight"]) == (2, 1.0)
    assert (await asyncio.to_thread(workbench.replay, "bob", "support", span))["requests"] == 5
    with pytest.raises(InvalidRequest):
        await asyncio.to_thread(workbench.replay, "alice", "support", {**span, "objective": {"qualityWeight": -1}})
    with pytest.raises(NotFound):
        await asyncio.to_thread(workbench.replay, "nobody", "support", span)
    with pytest.raises(NotFound):
        await asyncio.to_thread(workbench.frontier, "nobody", "support", start, end)


def test_postgres_away_is_an_outage() -> None:
    """The workbench opens without a database and says so when it is asked, within its bounded wait."""
    url = "postgresql://nobody@127.0.0.1:1/none"
    with (
        open_workbench(load_settings({"MODELPILOT_DATABASE_URL": url}), url) as opened,
        pytest.raises(DependencyUnavailable),
    ):
        opened.frontier("alice", "support", 0.0, 1.0)


def _add_job(url: str, user_id: str, job_id: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            """INSERT INTO rescore_jobs (user_id, id, workflow_id, status, paused, spec, total, done, scored,
            cursor_user, cursor_id) VALUES (%s, %s, 'w', 'running', false, '{}', 5, 2, 1, '', '')""",
            (user_id, job_id),
        )
