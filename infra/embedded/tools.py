"""Programs that embedded services need."""

import shutil
import sys
from pathlib import Path

from infra.embedded.errors import ToolMissing


def find_tool(name: str, otherwise: str) -> Path:
    """The program `name`: beside this Python (where its wheel put it), else on PATH.

    Raises ToolMissing, which says how to install it, or `otherwise`.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise ToolMissing(
            f"The program `{name}` is neither beside Python nor on PATH. Run `make install`, or {otherwise}."
        )
    return Path(found)
