"""What the entry point does with a command that cannot be run."""

import sys

import pytest

from cli import main


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
