"""What the entry point does with a command that cannot be run, and what it says of itself."""

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from cli import main
from cli.__main__ import program


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and all that was said."""
    monkeypatch.setattr(sys, "argv", ["modelpilot", *arguments])
    with pytest.raises(SystemExit) as caught:
        main.main()
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out + said.err


def test_it_says_its_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reports a bug is asked for it."""
    assert run(["--version"], monkeypatch, capsys) == (0, f"modelpilot {version('modelpilot')}\n")


@pytest.mark.parametrize("command", [[], ["gateway"], ["up"], ["keys"], ["keys", "create"], ["bench", "gateway"]])
def test_short_help_is_help(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-h`, as everywhere."""
    code, said = run([*command, "-h"], monkeypatch, capsys)
    assert (code, "Usage: modelpilot" in said) == (0, True)


@pytest.mark.parametrize("process", ["gateway", "closer", "worker"])
def test_a_process_alone_says_what_it_lacks(
    process: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A line for each setting, and no traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELPILOT_DATA_DIR", str(tmp_path))
    for name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "MILVUS_URI", "ENCRYPTION_KEYS"):
        monkeypatch.delenv(f"MODELPILOT_{name}", raising=False)
    code, said = run([process], monkeypatch, capsys)
    assert code == main.EXIT_CONFIGURATION
    assert "MODELPILOT_ENCRYPTION_KEYS: is not set" in said
    assert "Traceback" not in said


def test_a_command_that_is_not_installed_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing module is an error of that command alone."""
    monkeypatch.setitem(main.COMMANDS, "absent", "Nothing.")
    main.app.command("absent")(lambda: None)
    monkeypatch.setattr(sys, "argv", ["modelpilot", "absent"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    main.app.registered_commands.pop()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "modelpilot: the command `absent` is not part of this installation\n"


def test_a_failure_with_temporals_library_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That library's threads would otherwise abort an interpreter that ends, now and then; what was said is said."""
    ended: list[int] = []

    def failing() -> None:
        sys.stderr.write("what went wrong\n")
        raise SystemExit(3)

    monkeypatch.setattr(main, "main", failing)
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setitem(sys.modules, "temporalio", ModuleType("temporalio"))
    with pytest.raises(SystemExit) as caught:
        program()
    assert (ended, caught.value.code) == ([3], 3)
    assert capsys.readouterr().err == "what went wrong\n"
    monkeypatch.delitem(sys.modules, "temporalio")
    with pytest.raises(SystemExit):
        program()
    assert ended == [3]
