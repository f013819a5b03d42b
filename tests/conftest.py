"""Real services, started once per test session, the first time that a test asks for one. With several workers each
worker is a session of its own, with services of its own."""

import os

# As the command line does it, and before numpy is imported: how many threads share a product decides its last digits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import settings
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from xdist.scheduler import LoadScopeScheduling

from infra.local.postgres import PostgresPlan
from tests.support import servers
from tests.support.servers import temporary_database
from workflows import schedules

# Tests never assert on time. A build must not depend on the draw; elsewhere every run tries new examples.
settings.register_profile("build", deadline=None, derandomize=True)
settings.register_profile("here", deadline=None)
settings.load_profile("build" if os.environ.get("CI") else "here")


# The tests of each of these folders share one installation: starting it twice takes longer than it saves.
ONE_INSTALLATION = ("tests/browser/", "tests/e2e/")


class ByServers(LoadScopeScheduling):
    """A worker takes a whole file at a time, or a whole folder of `ONE_INSTALLATION`, in the order of collection: the
    slow folders come first in it, and quick files fill up the end."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # xdist would begin with the files that have most tests: quick ones
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in ONE_INSTALLATION if file.startswith(folder)), file)


MEASURED = ("unit", "integration")  # folders whose tests count for coverage


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist` must go on working
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    """Which worker runs which tests."""
    return ByServers(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Coverage is measured where the code runs in the test's own process and tracing does not slow down a server."""
    if config.pluginmanager.hasplugin("_cov"):
        for item in items:
            if item.path.relative_to(config.rootpath).parts[1] not in MEASURED:
                item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresPlan]:
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as plan:
        yield plan


@pytest.fixture
def postgres_url(_postgres: PostgresPlan) -> Iterator[str]:
    """URL of an empty database that is dropped after the test."""
    with temporary_database(_postgres) as name:
        yield _postgres.url(name)


@pytest.fixture(scope="session")
def _migrated_template(_postgres: PostgresPlan) -> Iterator[str]:
    from infra.db.migrate import upgrade

    with temporary_database(_postgres) as name:
        upgrade(_postgres.url(name))
        yield name


@pytest.fixture
def migrated_url(_postgres: PostgresPlan, _migrated_template: str) -> Iterator[str]:
    """URL of a database with today's schema and nothing else, dropped after the test."""
    with temporary_database(_postgres, _migrated_template) as name:
        yield _postgres.url(name)


@pytest.fixture(scope="session")
def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the session's Temporal server (namespace `default`, search attributes registered)."""
    with servers.temporal(tmp_path_factory.mktemp("temporal")) as address:
        yield address


@pytest.fixture
async def maintained_temporal(temporal_address: str) -> AsyncIterator[str]:
    """`temporal_address` for tests that start maintenance workers as processes: the schedules that these keep are gone
    at the end, and would otherwise go on starting workflows that nobody takes on the server of all tests."""
    yield temporal_address
    client = await Client.connect(temporal_address)
    for each in schedules.every():
        try:
            await client.get_schedule_handle(each.id).delete()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # the worker ended before it made them
                raise


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of the session's Milvus Lite server; use collection names of your own."""
    with servers.milvus(tmp_path_factory.mktemp("milvus")) as uri:
        yield uri


@pytest.fixture(scope="session")
def simulator_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of the session's simulator process."""
    with servers.simulator(tmp_path_factory.mktemp("simulator")) as url:
        yield url
