"""Query strings: everything that a page shows is said there, so that reload, sharing and the back button keep it."""

from urllib.parse import parse_qsl, urlencode

# What a link to another page carries along: the time range, and whose data an admin looks at.
KEPT = ("range", "from", "to", "as")


def query(search: str | None) -> dict[str, str]:
    """`?a=1&b=` → `{"a": "1"}`: of repeated names the last counts, empty values are none."""
    return {name: value for name, value in parse_qsl((search or "").removeprefix("?")) if value}


def search_with(search: str | None, changes: dict[str, str | None]) -> str:
    """The query string with some values replaced; None takes one away. `""` where nothing is left."""
    merged: dict[str, str | None] = {**query(search), **changes}
    left = urlencode({name: value for name, value in merged.items() if value})
    return f"?{left}" if left else ""


def link(path: str, search: str | None, **filters: str | None) -> str:
    """Another page with the same range and viewer, and with `filters` of its own (`from_` stands for `from`)."""
    kept = {name: value for name, value in query(search).items() if name in KEPT}
    return path + search_with("", {**kept, **{name.rstrip("_"): value for name, value in filters.items()}})
