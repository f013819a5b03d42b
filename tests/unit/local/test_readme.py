"""The README's snippets can be found, read, and pointed at another stack (executing them is an end-to-end test)."""

import re

from cli.main import COMMANDS
from tests.support.readme import README, snippets


def test_the_snippets_are_found() -> None:
    """Shell and Python both; the end-to-end test must not pass because it found nothing."""
    assert len(list(snippets("bash"))) >= 5
    assert len(list(snippets("python"))) == 1
    assert next(snippets()).text == "make up\n"
    assert [snippet.file for snippet in snippets("python")] == ["first.py"]


def test_snippets_can_be_pointed_elsewhere() -> None:
    """No default address, program or file is left after it."""
    for snippet in snippets("bash", "python"):
        moved = snippet.retargeted(api_url="http://127.0.0.1:1", data_dir="/data", program="mp", python="py").text
        assert not re.search(r":8080|\.modelpilot/|\.venv", moved), f"line {snippet.line}"


def test_every_link_into_the_repository_leads_somewhere() -> None:
    """Files that are linked exist."""
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def test_every_command_is_mentioned_and_no_other() -> None:
    """The table of commands is the command line's."""
    text = README.read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `") and "/`" not in line]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(COMMANDS)


def test_every_word_of_the_trade_is_explained_once() -> None:
    """A newcomer meets each with one sentence, before the page builds on it."""
    text = README.read_text(encoding="utf-8")
    words = ("router", "objective", "provider", "candidates", "Evidence", "Exploration", "fallback", "workflow")
    for word in words:
        assert len(re.findall(rf"^- .*\*\*{word}\*\* .*\.$", text, re.MULTILINE)) == 1, word
    assert text.index("**workflow**") < text.index("## Quickstart")
