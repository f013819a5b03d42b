"""The table of clients and features in the documentation: what the last run of `make clients` found. Pure."""

from collections.abc import Iterable, Mapping

BEGIN, END = "<!-- clients -->", "<!-- end of clients -->"
WORKS, FAILS, NONE = "✓", "✗", "–"
FEATURES = (
    "chat", "stream", "tools", "structured", "image", "embeddings", "unknown model", "wrong key", "usage", "cancel",
    "task",
)  # fmt: skip

# Client's title → versions and cells, by column.
Row = Mapping[str, str]
Table = Mapping[str, Row]
_COLUMNS = ("client", "versions", *FEATURES)


def cell(feature: str, result: Mapping[str, str] | None) -> str:
    """What a client's line about a feature becomes in the table; no line means that it never came so far. A task is
    what coding agents are given."""
    if result is None:
        return NONE if feature == "task" else f"{FAILS} not reached"
    if "failure" in result:
        return f"{FAILS} {' '.join(result['failure'].split())[:160]}".replace("|", "/")
    return f"{NONE} {result['none']}".rstrip() if "none" in result else WORKS


def fails(row: Row) -> bool:
    """Whether something in a row does not work."""
    return any(text.startswith(FAILS) for text in row.values())


def read(document: str) -> dict[str, Row]:
    """The rows that a document has between its marks."""
    lines = document.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    rows = ([each.strip() for each in line.strip().strip("|").split(" | ")] for line in lines)
    return {row[0]: dict(zip(_COLUMNS[1:], row[1:], strict=True)) for row in rows}


def written(document: str, table: Table, order: Iterable[str]) -> str:
    """The document with the rows of `table` in this order."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"]
    rows = [(title, table[title]) for title in order if title in table]
    lines += [f"| {title} | {' | '.join(row[column] for column in _COLUMNS[1:])} |" for title, row in rows]
    before, _, rest = document.partition(BEGIN)
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}"
