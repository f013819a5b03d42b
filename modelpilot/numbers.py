"""Numbers for JSON, which has neither NaN nor infinity."""

import math
from typing import Any


def finite_json(value: Any) -> Any:
    """`value` (plain data) with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
