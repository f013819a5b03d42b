"""Whom the embedded Postgres runs as: this user, or `pgserver` when this user is root (which Postgres refuses)."""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from infra.embedded.errors import StackError

USER = "pgserver"
READ, PASS = stat.S_IROTH, stat.S_IXOTH


def for_server(programs: Path) -> str | None:
    """None for "this user"; as root the dedicated user, created if need be, who may read and run the `programs`."""
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
