"""Become another program, tied to the life of the parent: `launch.py PARENT DEATH_SIGNAL NICE USER PROGRAM ARGS...`.

Run with `python -I -S`, so it imports nothing of the project and costs about 20 ms. It exists because the same steps
in `subprocess.Popen(preexec_fn=...)` run Python between fork and exec, which can deadlock in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
INHERITED_DISPOSITIONS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE", "SIGXFSZ")
EXIT_NOT_STARTED = 127  # as a shell says it


def restore_signals() -> None:
    """Undo inherited "ignore": a shell's `modelpilot up &` ignores SIGINT, which is how some servers are stopped."""
    for name in INHERITED_DISPOSITIONS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def stand_back(niceness: int) -> None:
    """Leave the processor to others. Where the kernel shares it among sessions first, as desktops and many servers have
    it, niceness counts within a session only, and this process has one of its own: so the session is told, too."""
    if niceness == 0:
        return
    os.nice(niceness)
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as group:  # noqa: PTH123 - pathlib takes 20 ms to import
            group.write(str(niceness))
    except OSError:
        return  # another kernel, or one that does not group


def drop_to(user: str) -> None:
    """Become `user` for good (Postgres refuses to run as root)."""
    import pwd

    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Ask the kernel to send `death_signal` when the parent dies; exit now if it is dead already.

    Must come after `drop_to`: a change of user clears the request. Other kernels than Linux have no such request;
    there an orphan lives on until the next start refuses its port.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit(EXIT_NOT_STARTED)


def main(arguments: list[str]) -> None:
    """Do the steps in their order and replace this process."""
    parent_pid, death_signal, niceness, user, *program = arguments
    restore_signals()
    stand_back(int(niceness))
    os.umask(0o077)  # whatever a server writes is its owner's business only
    if user:
        drop_to(user)
    die_with_parent(int(parent_pid), int(death_signal))
    try:
        os.execvp(program[0], program)  # noqa: S606 - replacing this process without a shell is the purpose
    except OSError as error:
        sys.stderr.write(f"cannot run {program[0]}: {error.strerror}\n")
        sys.exit(EXIT_NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])
