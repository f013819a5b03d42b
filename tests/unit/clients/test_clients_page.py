"""docs/clients.md says how clients are set up: as `make clients` sets them up."""

import re

import pytest

from tests.clients import report
from tests.clients.__main__ import DOCUMENT, clients
from tests.clients.environments import SCRIPTS, Client

PAGE = DOCUMENT.read_text(encoding="utf-8")
CLIENTS = clients()


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_block_is_what_the_program_runs(client: Client) -> None:
    """Whoever copies it has what was tried."""
    program = (SCRIPTS / client.run).read_text(encoding="utf-8")
    setup = re.search(r"--- setup\n(.*?)\n\s*(?:#|//) --- end of setup", program, re.DOTALL)
    section = re.search(rf"^## {re.escape(client.title)}$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    assert setup is not None
    assert section is not None
    assert re.findall(r"^```\w+\n(.*?)\n```$", section[1], re.MULTILINE | re.DOTALL) == [setup[1].strip()]


def test_every_client_has_its_row() -> None:
    """With the versions of the table, so that an update is tried before it is said to work."""
    rows = report.read(PAGE)
    assert list(rows) == [client.title for client in CLIENTS.values()]
    for client in CLIENTS.values():
        assert rows[client.title]["versions"] == client.versions


def test_no_cell_is_a_failure() -> None:
    """What does not work is fixed or said to be missing; nobody gets used to a red cell."""
    assert [title for title, row in report.read(PAGE).items() if report.fails(row)] == []


def test_a_table_survives_being_written_and_read() -> None:
    """A run of some clients keeps the other rows, and the text around them."""
    row = {"versions": "a 1", **dict.fromkeys(report.FEATURES, report.WORKS)}
    page = f"before\n{report.BEGIN}\n{report.END}\nafter\n"
    once = report.written(page, {"`a`": row, "b": row}, ["b", "`a`"])
    assert list(report.read(once)) == ["b", "`a`"]
    assert report.written(once, report.read(once), ["b", "`a`"]) == once
    assert (once.startswith("before\n"), once.endswith("\nafter\n")) == (True, True)


@pytest.mark.parametrize(
    ("feature", "result", "cell"),
    [
        ("chat", {}, "✓"),
        ("chat", {"none": "has none"}, "– has none"),
        ("chat", {"failure": "a |\n b", "trace": "…"}, "✗ a / b"),
        ("chat", None, "✗ not reached"),
        ("task", None, "–"),
    ],
)
def test_a_line_becomes_a_cell(feature: str, result: dict[str, str] | None, cell: str) -> None:
    """A feature of which a program says nothing has failed, unless it is one of agents."""
    assert report.cell(feature, result) == cell
