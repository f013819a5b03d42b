"""`make install`'s script for real: it makes an environment, with a lock of one small package and no network."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.local import install

SCRIPT = Path(install.__file__)
# The project's own wheel is made beforehand: what builds it is not what this is about.
BACKEND = """
import shutil
def build_editable(directory, config_settings=None, metadata_directory=None):
    return shutil.copy("project-0-py3-none-any.whl", directory).rpartition("/")[2]
"""
PYPROJECT = (
    '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "project"\n'
)


def write_wheel(directory: Path, name: str, version: str) -> Path:
    """An installable package with one empty module."""
    path, info = directory / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project, and a lock that names the wheel beside it with its hash."""
    digest = hashlib.sha256(write_wheel(tmp_path, "tiny", "1.0").read_bytes()).hexdigest()
    (tmp_path / "requirements.lock").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    write_wheel(tmp_path, "project", "0")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    return tmp_path


def run(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Install in this directory from the wheels in it."""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(directory), "PIP_CACHE_DIR": str(directory / "cache")}
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT)],
        cwd=directory,
        env=os.environ | offline | environment,
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )


def test_it_installs_the_lock_and_the_project_and_says_so(checkout: Path) -> None:
    """The steps are named in their order, and what was installed can be imported."""
    done = run(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Installing ModelPilot and 1 pinned packages into .venv: a few minutes the first time."
    assert lines[1] == "  making the environment .venv"
    assert lines[-1].startswith("Installed in ")
    python = checkout / ".venv" / "bin" / "python"
    subprocess.run([python, "-c", "import tiny, project"], check=True, cwd=checkout.parent)


def test_another_content_than_the_lock_names_is_not_installed(checkout: Path) -> None:
    """Hashes are checked; pip's error is shown, and what it means."""
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text().rpartition(":")[0] + ":" + "0" * 64 + "\n")
    done = run(checkout)
    assert done.returncode == 1
    assert "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout
    assert "What came is not what requirements.lock names" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((checkout / ".venv").rglob("tiny*"))


def test_without_an_index_it_says_what_to_look_at(checkout: Path) -> None:
    """A machine without network, or behind a proxy, is the usual reason for a first failure."""
    done = run(checkout, PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "is this machine online?" in done.stdout


def test_a_python_without_ensurepip_names_the_debian_package(checkout: Path) -> None:
    """Debian splits it off, and `venv` fails only half-way there."""
    code = f"""
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ensurepip" else find(name, *more)
sys.argv = ["install.py"]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"apt install python{sys.version_info.major}.{sys.version_info.minor}-venv" in done.stdout
    assert not (checkout / ".venv").exists()


def test_a_missing_or_old_python_is_named(checkout: Path) -> None:
    """`make install` needs no more than `make` to say what it lacks."""
    shutil.copy(SCRIPT.parents[2] / "Makefile", checkout)
    make = shutil.which("make") or "make"
    asked = [make, "install", "PYTHON=no-such-python"]
    done = subprocess.run(asked, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ModelPilot needs Python 3.11 or newer, and no-such-python is older or not there." in done.stderr
    assert "apt install python3 python3-venv" in done.stderr
