"""What `make install` says while pip works: how far it is, what pip complains about, and what can be done about it."""

import io
import os
from pathlib import Path

import pytest

from infra.local.install import PipProgress, Screen, hint


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """The folder that pip fills; what the environment came with is there already."""
    folder = tmp_path / "site-packages"
    for name, made_at in (("pip-23.2.1", 50.0), ("numpy-2.3.0", 101.0), ("pyarrow-23.0", 102.0)):
        path = folder / f"{name}.dist-info"
        path.mkdir(parents=True)
        os.utime(path, (made_at, made_at))
    return folder


def test_pips_lines_become_a_count(site_packages: Path) -> None:
    """How many packages of how many, and which; those for other machines do not count."""
    progress = PipProgress(4, site_packages)
    assert progress.text() == "fetching 0 of 4"
    for line in (
        "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment",
        "Collecting numpy==2.3.0 (from -r requirements.lock (line 9))",
        "  Downloading numpy-2.3.0-cp311-manylinux.whl (16 MB)",
        "Requirement already satisfied: pip==23.2.1 in ./.venv/lib (from -r requirements.lock (line 12))",
    ):
        assert not progress.read(line, 90.0)
    assert progress.text() == "fetching 2 of 3: pip"


def test_unpacking_is_counted_by_what_is_there(site_packages: Path) -> None:
    """pip says nothing for half a minute while it unpacks, so the folder tells."""
    progress = PipProgress(4, site_packages)
    progress.read("Installing collected packages: wheel, numpy, pyarrow", 100.0)
    assert progress.text() == "installing 2 of 3: pyarrow"


def test_pips_complaints_are_shown_and_remembered(site_packages: Path) -> None:
    """A warning is shown alone; from the first error on everything is."""
    progress = PipProgress(1, site_packages)
    lines = ["WARNING: Retrying after connection broken", "Collecting a==1", "ERROR: No matching distribution", "  b"]
    assert [progress.read(line, 1.0) for line in lines] == [True, False, True, True]
    assert progress.complaints == [lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'", "online"),
        ("ERROR: No matching distribution found for numpy==2.3.0", "PIP_INDEX_URL"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "requirements.lock"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk"),
        ("ERROR: something new", None),
    ],
)
def test_what_can_be_done_is_said(said: str, advice: str | None) -> None:
    """pip names its trouble, but not the way out."""
    found = hint(said)
    assert found == advice if advice is None else advice in (found or "")


def test_lines_come_every_few_seconds_and_say_how_long_it_takes() -> None:
    """A log gets a line now and then, also where nothing moves, and not one per package."""
    out = io.StringIO()
    screen = Screen(out, rewrite=False)
    for second, text in enumerate(["a", "a", "b", "c", "c", "c", "c", "c", "c"], start=100):
        screen.state(text, float(second))
    assert out.getvalue().splitlines() == ["  a", "  c (1 s)", "  c (5 s)"]


def test_a_terminal_has_one_line_that_changes() -> None:
    """It is written over, and a line that stays takes its place."""
    out = io.StringIO()
    screen = Screen(out, rewrite=True)
    screen.state("fetching 1 of 2: a-very-long-name", 100.0)
    screen.state("fetching 2 of 2: b", 101.0)
    screen.say("Installed.")
    shown = [line.rstrip() for line in out.getvalue().split("\r")]
    assert shown == ["  fetching 1 of 2: a-very-long-name", "  fetching 2 of 2: b", "", "Installed."]
    assert "\n" not in out.getvalue().removesuffix("\n")
