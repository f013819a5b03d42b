"""docs/compatibility.md says what the table of manners and the rules of fields say."""

import json
from collections.abc import Iterator
from pathlib import Path

from modelpilot.providers.fields import FIELDS
from modelpilot.providers.manners import Manners, manners_of

DOCUMENT = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text(encoding="utf-8")


def parameter_rows() -> Iterator[str]:
    """The table of `parameters`: name, meaning, and the default at a server of which nothing is known."""
    unknown = manners_of("openai", "", "m")
    for name, field in Manners.model_fields.items():
        value = getattr(unknown, name)
        default = "–" if value is None else f"`{json.dumps(value)}`"
        yield f"| `{field.alias}` | {field.description} | {default} |"


def field_rows() -> Iterator[str]:
    """The table of fields: name, nature, and the values that ask for nothing."""
    for name, rule in FIELDS.items():
        neutral = ", ".join(f"`{json.dumps(value)}`" for value in rule.neutral)
        yield f"| `{name}` | {rule.nature} | {neutral} |"


def test_every_parameter_is_documented() -> None:
    """A new parameter, or a changed default, changes the page."""
    assert [row for row in parameter_rows() if row not in DOCUMENT] == []


def test_every_field_is_documented() -> None:
    """So does a field's rule."""
    assert [row for row in field_rows() if row not in DOCUMENT] == []


def test_the_page_has_no_others() -> None:
    """What is gone from the code is gone from the page."""
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert len(rows) == len(Manners.model_fields) + len(FIELDS) + 1
