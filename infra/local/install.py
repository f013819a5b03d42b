"""`make install`: the environment `.venv` with the pinned dependencies and ModelPilot itself, saying how far it is.

Run in a checkout, before there is an environment: `python3 -I infra/local/install.py` imports the standard library
alone. pip does the work and checks the hashes; it is silent for minutes or says hundreds of lines, and of those this
makes one that moves on. What pip warns of and complains about is shown as it is, with a hint at what to do.
"""

import importlib.util
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ENVIRONMENT, LOCK = Path(".venv"), Path("requirements.lock")
PYTHON = ENVIRONMENT / "bin" / "python"
PIP = (str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-color", "--no-input", "install")
QUIET_PIP = (*PIP, "--progress-bar", "off")
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
REWRITE_EVERY_S, LINE_EVERY_S = 0.2, 4.0

_PINNED = re.compile(r"^[A-Za-z0-9][\w.-]*==", re.MULTILINE)
_LOOKED_AT = re.compile(r"\s*(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9][\w.-]*)")
_OTHER_MACHINES = re.compile(r"Ignoring [\w.-]+: markers ")
_ALL_FETCHED = re.compile(r"Installing collected packages: (.+)")
_WARNING, _ERROR = re.compile(r"\s*WARNING:"), re.compile(r"\s*(?:ERROR|error|Error|Traceback|The virtual env)\b")

# What people can do about what pip says, by its words: it has no codes.
_HINTS = {
    r"DO NOT MATCH THE HASHES": "What came is not what requirements.lock names, and nothing of it was installed: a "
    "proxy or an index of your own (PIP_INDEX_URL) may have changed it.",
    r"No space left": "The disk is full. The environment takes about 1.5 GB.",
    r"connection broken|No matching distribution|Could not fetch|Temporary failure|timed out": "The packages come from "
    "the network: is this machine online? Behind a proxy set HTTPS_PROXY; with an index of your own, PIP_INDEX_URL.",
    r"Permission denied": f"Who runs this must be able to write to {ENVIRONMENT.resolve()}.",
}


class Screen:
    """One line that says how far it is: rewritten on a terminal, elsewhere a new one every few seconds."""

    def __init__(self, out: IO[str], *, rewrite: bool) -> None:
        self._out, self._rewrite = out, rewrite
        self._said, self._said_at, self._since = "", 0.0, 0.0
        self.every_s = REWRITE_EVERY_S if rewrite else LINE_EVERY_S

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write(f"{text}\n")

    def state(self, text: str, now: float) -> None:
        """How far it is at this moment (seconds of any clock); what takes long shows that it goes on."""
        if text != self._said:
            self._said, self._since = text, now
        elif now - self._said_at < self.every_s:
            return
        if now - self._said_at >= self.every_s:
            self._said_at = now
            lasted = now - self._since
            line = f"  {text}" + (f" ({lasted:.0f} s)" if lasted >= 1.0 else "")
            self._write(f"{line:<79.79}\r" if self._rewrite else f"{line}\n")

    def _write(self, text: str) -> None:
        # What is rewritten may be longer than what takes its place.
        clear = f"{'':79}\r" if self._rewrite and text.endswith("\n") else ""
        self._out.write(clear + text)
        self._out.flush()


@dataclass
class PipProgress:
    """What pip's lines, and later the folder that it fills, say of how far it is; `what` where there is no number."""

    total: int
    site_packages: Path
    what: str = ""
    seen: int = 0
    name: str = ""
    installing_since: float | None = None
    failed: bool = False
    complaints: list[str] = field(default_factory=list)

    def read(self, line: str, now: float) -> bool:
        """Take in one line; whether it is for people: a warning, and everything from the first error on."""
        if found := _LOOKED_AT.match(line):
            self.seen, self.name = self.seen + 1, found[1]
        elif _OTHER_MACHINES.match(line):
            self.total -= 1
        elif found := _ALL_FETCHED.match(line):
            self.installing_since, self.total = now, found[1].count(",") + 1
        self.failed = self.failed or _ERROR.match(line) is not None
        told = self.failed or _WARNING.match(line) is not None
        self.complaints += [line] if told else []
        return told

    def text(self) -> str:
        """`fetching 12 of 135: numpy`."""
        if self.what:
            return self.what
        if self.installing_since is None:
            return f"fetching {min(self.seen, self.total)} of {self.total}" + (f": {self.name}" if self.name else "")
        made = sorted(_made_since(self.site_packages, self.installing_since))
        name = made[-1][1].partition("-")[0] if made else "…"
        return f"installing {min(len(made), self.total)} of {self.total}: {name}"


def _made_since(site_packages: Path, moment: float) -> Iterator[tuple[float, str]]:
    """`(time, folder)` of each distribution that is there since then. pip says nothing while it unpacks."""
    for entry in os.scandir(site_packages):
        if entry.name.endswith(".dist-info"):
            try:
                made_at = entry.stat().st_mtime
            except FileNotFoundError:  # pip replaces it at this moment
                continue
            if made_at >= moment:
                yield made_at, entry.name


def hint(complaints: str) -> str | None:
    """What to do about what pip said; None where nobody knows."""
    return next((advice for words, advice in _HINTS.items() if re.search(words, complaints, re.IGNORECASE)), None)


def run(argv: tuple[str, ...], screen: Screen, progress: PipProgress) -> int:
    """Run a program to its end, showing how far it is and what it complains about; its exit code."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        while True:
            screen.state(progress.text(), time.monotonic())
            try:
                line = lines.get(timeout=REWRITE_EVERY_S)
            except queue.Empty:
                continue
            if line is None:
                break
            if progress.read(line, time.time()):
                screen.say(f"  {line}")
    return process.returncode


def _pass_on(output: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    for line in output:
        lines.put(line.rstrip())
    lines.put(None)


def install(screen: Screen) -> int:
    """The exit code. What is there already stays: a second run goes on where the first one stopped."""
    if importlib.util.find_spec("ensurepip") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        screen.say(f"This Python has no ensurepip. Debian and Ubuntu: apt install python{version}-venv")
        return EXIT_FAILED
    pinned = len(_PINNED.findall(LOCK.read_text(encoding="utf-8")))
    screen.say(f"Installing ModelPilot and {pinned} pinned packages into {ENVIRONMENT}: a few minutes the first time.")
    library = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site_packages = ENVIRONMENT / "lib" / library / "site-packages"
    steps: list[tuple[tuple[str, ...], str]] = [
        ((sys.executable, "-m", "venv", str(ENVIRONMENT)), f"making the environment {ENVIRONMENT}"),
        ((*QUIET_PIP, "--require-hashes", "-r", str(LOCK)), ""),
        ((*QUIET_PIP, "--no-deps", "--no-build-isolation", "-e", "."), "installing ModelPilot itself"),
    ]
    failed = any(_failed(screen, argv, PipProgress(pinned, site_packages, what)) for argv, what in steps)
    return EXIT_FAILED if failed else 0


def _failed(screen: Screen, argv: tuple[str, ...], progress: PipProgress) -> bool:
    code = run(argv, screen, progress)
    if code:
        screen.say(f"Not installed: `{' '.join(argv)}` ended with exit code {code}.")
        advice = hint("\n".join(progress.complaints))
        screen.say(advice or "Above is what it said. `make install` goes on where it stopped.")
    return code != 0


def main() -> int:
    """Install, and say how long it took."""
    began, screen = time.monotonic(), Screen(sys.stdout, rewrite=sys.stdout.isatty())
    try:
        code = install(screen)
    except KeyboardInterrupt:
        screen.say("Interrupted. `make install` goes on where it stopped.")
        return EXIT_INTERRUPTED
    if code == 0:
        screen.say(f"Installed in {time.monotonic() - began:.0f} s.")
    return code


if __name__ == "__main__":
    sys.exit(main())
