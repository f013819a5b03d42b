"""How a child process is started: the launcher gets its arguments in the order in which it reads them."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from infra.local import launch
from infra.local.child import ChildSpec, _launch_argv


@pytest.mark.parametrize(("nice", "user"), [(0, None), (10, "nobody")])
def test_the_launcher_does_what_the_spec_says(nice: int, user: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands back as far as it is told, becomes the user, dies with us, and is the program."""
    done: list[tuple[Any, ...]] = []

    def note(name: str) -> Any:
        return lambda *given: done.append((name, *given))

    for name in ("restore_signals", "stand_back", "drop_to", "die_with_parent"):
        monkeypatch.setattr(launch, name, note(name))
    for name in ("umask", "execvp"):
        monkeypatch.setattr(os, name, note(name))
    spec = ChildSpec("closer", ("python", "-m", "cli", "closer"), Path("/log"), {}, user=user, nice=nice)
    launcher, *arguments = _launch_argv(spec)[3:]
    assert launcher == str(Path(launch.__file__))
    launch.main(arguments)
    dropped = [("drop_to", user)] if user else []
    assert done == [
        ("restore_signals",),
        ("stand_back", nice),
        ("umask", 0o077),
        *dropped,
        ("die_with_parent", os.getpid(), int(signal.SIGKILL)),
        ("execvp", "python", ["python", "-m", "cli", "closer"]),
    ]
