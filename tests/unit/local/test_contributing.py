"""docs/contributing.md names every file that an addition touches: an example of each kind is followed in the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
PRODUCT = ("modelpilot", "activities", "workflows", "api", "dashboard", "infra", "processes", "cli", "simulator")

# What the example of a list is called in the code, and the pages that have to name it.
EXAMPLES = {
    "A provider kind": (r'"anthropic"|ANTHROPIC_API_KEY', "docs/configuration.md"),
    "A router field": (r"same_model_retries|sameModelRetries", "docs/api.md"),
    "A setting": (r"(?i)request_retention_days", "docs/configuration.md"),
    "An activity": (r"refit_router|REFIT_ROUTER|class RefitReport\b",),
    "A dashboard page": (r'\bexplore\.PAGE|path="/explore"',),
    "A management resource": (r'\bProviderSpec\b|\bProviderRow\b|Provider\w*Repository|"providers",$',),
}


def entries(heading: str) -> dict[str, str]:
    """The files in the list of this section, each with what is said of it."""
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert section is not None, heading
    return dict(re.findall(r"^- `([^`]+)`: (.+)$", section[1], re.MULTILINE))


def naming(pattern: str, *pages: str) -> set[str]:
    """The files of the product that name the example. A migration stands for its folder."""
    wanted = re.compile(pattern, re.MULTILINE)
    files = [path for package in PRODUCT for path in (ROOT / package).rglob("*.py")]
    files += [ROOT / name for name in pages]
    found = {path.relative_to(ROOT) for path in files if wanted.search(path.read_text(encoding="utf-8"))}
    return {str(path.parent if path.parent.name == "versions" else path) for path in found}


def test_every_list_has_an_example() -> None:
    """A new list without a proof that it is complete fails."""
    headings = re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)
    assert headings == [*EXAMPLES, "Habits"]


@pytest.mark.parametrize("heading", EXAMPLES)
def test_every_named_file_exists(heading: str) -> None:
    """A file that was moved has to move in the list, too."""
    listed = entries(heading)
    assert listed
    assert [name for name in listed if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("heading", EXAMPLES)
def test_no_file_is_missing_and_none_is_listed_in_vain(heading: str) -> None:
    """Files that name the example are listed; files that are listed for every addition name it."""
    listed, found = entries(heading), naming(*EXAMPLES[heading])
    always = {name for name, about in listed.items() if not name.startswith("tests/") and "only where" not in about}
    assert found - set(listed) == set()
    assert always - found == set()


def test_named_files_in_prose_exist() -> None:
    """Paths beside the lists are kept as well."""
    paths = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", DOCUMENT)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_make_target_exists() -> None:
    """Targets that the habits name are in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", DOCUMENT)) <= targets
