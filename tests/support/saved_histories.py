"""Saved histories of workflows: one file for every way that a run can go.

They are what releases left behind: code that cannot replay them cannot take over what older processes began. A history
is therefore never made anew once it was released; a new way to go gets a new file. Payloads are encrypted under the
keyring of tests (`tests.support.core.KEYRING`).
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle, WorkflowHistory

from infra.temporal.codec import data_converter
from tests.support import servers
from tests.support.core import KEYRING

_ROOT = Path(__file__).parent.parent / "replay"


async def connect(address: str) -> Client:
    """A client as gateways have it, under a name that says nothing of this machine."""
    return await Client.connect(address, data_converter=data_converter(KEYRING), identity="test-gateway")


@dataclass(frozen=True)
class SavedHistories:
    """The histories of one workflow. `folder` lies beside the replay tests; `names` are the ways to go; `run` goes one
    of them to its end. The workflow's id is part of what is replayed where children are named after it."""

    workflow: type
    workflow_id: str
    folder: str
    names: Collection[str]
    run: Callable[[Client, str], Awaitable[WorkflowHandle[Any, Any]]]

    @property
    def files(self) -> list[Path]:
        """The histories that there are."""
        return sorted((_ROOT / self.folder).glob("*.json"))

    def load(self, path: Path) -> WorkflowHistory:
        """One of them."""
        return WorkflowHistory.from_json(self.workflow_id, path.read_text(encoding="utf-8"))

    def make_missing(self) -> None:
        """Make those that are not there yet."""
        missing = [path for name in self.names if not (path := _ROOT / self.folder / f"{name}.json").exists()]
        with tempfile.TemporaryDirectory() as directory, servers.temporal(Path(directory)) as address:
            for path in missing:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(asyncio.run(self._text(address, path.stem)), encoding="utf-8")
                sys.stdout.write(f"{path.name}\n")

    async def _text(self, address: str, name: str) -> str:
        """The history of a run's first part as JSON: a run that was continued goes on in a history of its own."""
        client = await connect(address)
        handle = await self.run(client, name)
        first = client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
        return json.dumps((await first.fetch_history()).to_json_dict(), indent=1) + "\n"
