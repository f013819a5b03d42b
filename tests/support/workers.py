"""How pytest-xdist shares the tests out: what shares servers stays together."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# The tests of each of these folders share one installation: starting it twice takes longer than it saves.
ONE_INSTALLATION = ("tests/browser/", "tests/e2e/")


class ByServers(LoadScopeScheduling):
    """A worker takes a whole file at a time, or a whole folder of `ONE_INSTALLATION`, in the order of collection: the
    slow folders come first in it, and quick files fill up the end."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False  # xdist would begin with the files that have most tests: quick ones
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in ONE_INSTALLATION if file.startswith(folder)), file)
