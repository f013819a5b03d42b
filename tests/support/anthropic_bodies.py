"""Requests in Anthropic's Messages format, and what may stand in a conversation."""

from typing import Any

from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
INPUTS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=3)
CALLS = st.lists(st.tuples(NAMES, INPUTS), max_size=3)


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A Messages request."""
    return {
        "model": "router/a",
        "max_tokens": 100,
        "messages": list(messages) or [{"role": "user", "content": "Hi"}],
        **fields,
    }


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    """A turn of the user."""
    return {"role": "user", "content": list(blocks)}
