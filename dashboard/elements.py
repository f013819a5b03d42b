"""What component functions return, and attributes that Dash's generated signatures cannot name."""

from typing import Any, TypeAlias

# A Dash component. dash-mantine-components ships no types, so anything narrower would need a cast at every return.
Element: TypeAlias = Any


def aria(**values: str) -> dict[str, Any]:
    """ARIA attributes for `**`: `aria(label="Pages")` → `{"aria-label": "Pages"}`."""
    return {f"aria-{name}": value for name, value in values.items()}
