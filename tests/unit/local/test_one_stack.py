"""One stack per data directory and port, a keyring that stays, and addresses that other commands find."""

import asyncio
import base64
import os
import socket
from pathlib import Path

import pytest

from infra.local import data_dir, ports
from infra.local.data_dir import DataDir
from infra.local.environment import Addresses, ensure_keyring, join_running_stack, publish
from infra.local.errors import AlreadyRunning, PortTaken, StackError
from infra.local.postgres import (
    PID_FILE,
    SOCKET_FILE,
    SOCKET_PATH_BYTES,
    PostgresPlan,
    end_leftover_server,
    own_directory,
)
from infra.local.stack import fixed_ports, plan_stack
from infra.settings import ConfigurationError, Settings, load_settings

ADDRESSES = Addresses("postgresql://x", "127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    DataDir(tmp_path).create()
    return load_settings({"MODELPILOT_DATA_DIR": str(tmp_path)})


def test_a_second_start_is_refused_by_process_id(tmp_path: Path) -> None:
    """Two supervisors on one directory would destroy its databases; the message says whom to stop."""
    path = tmp_path / "lock"
    with data_dir.exclusive(path):
        with (
            pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}\).*MODELPILOT_DATA_DIR"),
            data_dir.exclusive(path),
        ):
            pass
        assert data_dir.running_pid(path) == os.getpid()
    assert data_dir.running_pid(path) is None
    with data_dir.exclusive(path):
        pass


def test_a_taken_port_is_named_with_its_variable(settings: Settings) -> None:
    """The start says which port is in use and which variable moves it, before anything runs."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        moved = settings.model_copy(update={"dashboard_port": port})
        wanted = {"MODELPILOT_DASHBOARD_PORT": fixed_ports(moved)["MODELPILOT_DASHBOARD_PORT"]}
        with pytest.raises(PortTaken, match=rf"port {port} \(MODELPILOT_DASHBOARD_PORT\)"):
            asyncio.run(ports.require_free(wanted, patience_seconds=0))
    asyncio.run(ports.require_free(wanted, patience_seconds=0))


def test_ports_of_given_services_are_not_asked_for(settings: Settings) -> None:
    """With a Temporal service elsewhere, ours does not start and its ports do not matter."""
    given = settings.model_copy(update={"temporal_address": "temporal:7233"})
    assert set(fixed_ports(settings)) - set(fixed_ports(given)) == {
        "MODELPILOT_TEMPORAL_PORT",
        "MODELPILOT_TEMPORAL_UI_PORT",
    }


def test_a_chosen_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    """A restart has the same addresses, except where somebody took one meanwhile; a damaged memory is no obstacle."""
    memory = tmp_path / "ports.json"
    port = ports.remembered_port(memory, "simulator")
    assert ports.remembered_port(memory, "milvus") != port
    assert ports.remembered_port(memory, "simulator") == port
    with socket.create_server(("127.0.0.1", port)):
        assert ports.remembered_port(memory, "simulator") != port
    memory.write_text("{")
    assert ports.remembered_port(memory, "simulator")


def test_given_services_are_not_started(settings: Settings) -> None:
    """Only what the settings leave open is embedded."""
    given = {"database_url": "postgresql://x", "temporal_address": "t:1", "milvus_uri": "http://m"}
    names = {service.name for service in plan_stack(settings).services}
    fewer = {service.name for service in plan_stack(settings.model_copy(update=given)).services}
    assert names - fewer == {"postgres", "temporal", "milvus"}
    assert fewer == {"simulator", "migrate", "gateway", "closer", "worker", "dashboard"}


def test_roles_are_in_the_command_lines(settings: Settings) -> None:
    """An operator finds each process by its role, and no key on any command line."""
    commands = {service.name: service.spec.argv for service in plan_stack(settings).services}
    [key] = ensure_keyring(settings)
    for role in ("gateway", "closer", "worker", "dashboard", "simulator"):
        assert commands[role][1:4] == ("-m", "cli", role)
    assert key not in str(commands)


def test_who_closes_workflows_stands_back(settings: Settings) -> None:
    """The closer and the embedded Temporal take no core away from those who answer requests."""
    services = plan_stack(settings).services
    assert {service.name for service in services if service.spec.nice > 0} == {"closer", "temporal"}
    assert {service.spec.nice for service in services} == {0, 10}


async def test_ready_files_of_a_run_before_are_forgotten(settings: Settings) -> None:
    """What a killed process left behind must not pass for its successor's readiness, and all wait for `migrate`."""
    services = {service.name: service for service in plan_stack(settings).services}
    data, migrate = DataDir(settings.data_dir), services["migrate"]
    ready = [data.worker_ready, data.closer_ready]
    for path in ready:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert migrate.prepare is not None
    await migrate.prepare()
    assert not any(path.exists() for path in ready)
    assert all("migrate" in services[name].after for name in ("worker", "closer"))


def test_the_keyring_is_generated_once_for_its_owner_only(settings: Settings) -> None:
    """A restart must find the key that encrypted yesterday's rows, and nobody else may."""
    [key] = ensure_keyring(settings)
    path = DataDir(settings.data_dir).encryption_keys
    assert len(base64.b64decode(key)) == 32
    assert ensure_keyring(settings) == [key]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in settings.data_dir.glob("encryption.keys*")] == ["encryption.keys"]


def test_added_keys_are_read_newest_first_and_nonsense_is_refused(settings: Settings) -> None:
    """Rotation adds a line on top; a damaged file is an error, never a silent new key."""
    [old] = ensure_keyring(settings)
    new = base64.b64encode(os.urandom(32)).decode()
    path = DataDir(settings.data_dir).encryption_keys
    path.write_text(f"{new}\n{old}\n")
    assert ensure_keyring(settings) == [new, old]
    for damaged in ("", "c2hvcnQ=\n"):
        path.write_text(damaged)
        with pytest.raises(ConfigurationError, match="one key per line"):
            ensure_keyring(settings)


def test_configured_keys_win(settings: Settings) -> None:
    """With MODELPILOT_ENCRYPTION_KEYS nothing is generated."""
    key = base64.b64encode(bytes(range(32))).decode()
    variables = {"MODELPILOT_DATA_DIR": str(settings.data_dir), "MODELPILOT_ENCRYPTION_KEYS": key}
    assert ensure_keyring(load_settings(variables)) == [key]
    assert not DataDir(settings.data_dir).encryption_keys.exists()


def test_commands_join_a_running_stack(settings: Settings) -> None:
    """Commands in another terminal find the embedded services; without a stack they say how to start one."""
    data = DataDir(settings.data_dir)
    publish(ADDRESSES, data.addresses)
    with pytest.raises(ConfigurationError, match="make up"):
        join_running_stack(settings)  # left over by a killed supervisor
    with data_dir.exclusive(data.lock):
        joined = join_running_stack(settings.model_copy(update={"milvus_uri": "http://given"}))
    assert (joined.database_url, joined.milvus_uri) == ("postgresql://x", "http://given")


def test_a_long_or_unusual_path_gets_a_short_socket(tmp_path: Path) -> None:
    """A deep or comma-bearing directory would make a socket that cannot be bound or named; the URL is stable."""
    log = tmp_path / "log"
    for cluster in (Path("/" + "deep/" * 30), tmp_path / "with, comma"):
        directory = PostgresPlan(cluster, log).socket_dir
        assert len(f"{directory}/{SOCKET_FILE}".encode()) <= SOCKET_PATH_BYTES
        assert directory != cluster
        assert directory == PostgresPlan(cluster, log).socket_dir
    assert PostgresPlan(Path("/short/data"), log).socket_dir == Path("/short/data")


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """In a shared temporary directory a planted link must not become the place of our database socket."""
    (tmp_path / "planted").symlink_to(tmp_path)
    with pytest.raises(StackError, match="belongs to somebody else"):
        own_directory(tmp_path / "planted", None)


async def test_a_recycled_process_id_does_not_block_postgres(tmp_path: Path) -> None:
    """After a kill the old server's process id may be another program's: that one lives on, the file goes."""
    (tmp_path / PID_FILE).write_text(f"{os.getpid()}\n{tmp_path}\n")
    await end_leftover_server(tmp_path)
    assert not (tmp_path / PID_FILE).exists()
