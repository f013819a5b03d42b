"""Configuration changes made by other processes: Postgres NOTIFY, heard on a connection of its own."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import psycopg

from infra.db.engine import plain_url

CHANNEL = "modelpilot_config"
_CONNECT_TIMEOUT_S = 5
_PING_EVERY_S = 15.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_LOG = logging.getLogger(__name__)


class ConfigurationCallback(Protocol):
    """Called for each change with its kind (router, model, provider, api_key, user, predictor, history, recount,
    health), owner and id.

    Owner "" and id "*" mean the shared catalogue, hence everybody; kind "history" and id "*" every router of the owner.
    Kind None: changes may have been missed, so whatever is cached must go.
    """

    def __call__(self, kind: str | None, user_id: str = "", subject: str = "") -> None:
        """Must not block."""
        ...


class ConfigurationListener:
    """Listens from `start` to `stop`, and connects again whenever the connection breaks."""

    def __init__(self, url: str, callback: ConfigurationCallback) -> None:
        self._url = plain_url(url)
        self._callback = callback
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen in the background; does not wait for Postgres."""
        self._task = asyncio.create_task(self._run(), name="configuration-listener")

    async def stop(self) -> None:
        """Stop listening and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def wait_until_listening(self) -> None:
        """Return once changes are heard (again)."""
        await self._listening.wait()

    async def _run(self) -> None:
        pause_s, connections = _FIRST_PAUSE_S, 0
        while True:
            try:
                await self._listen(missed=connections > 0)
            except (psycopg.Error, OSError, TimeoutError) as error:
                _LOG.warning("configuration listener lost its connection: %s", type(error).__name__)
            if self._listening.is_set():
                connections, pause_s = connections + 1, _FIRST_PAUSE_S
            self._listening.clear()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _listen(self, *, missed: bool) -> None:
        connect = psycopg.AsyncConnection.connect
        async with await connect(self._url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            if missed:
                self._callback(None)  # only now: what is cached from here on cannot go stale unheard
            self._listening.set()
            while True:
                async for notice in connection.notifies(timeout=_PING_EVERY_S):
                    _deliver(self._callback, notice.payload)
                # A server that vanished without a goodbye is noticed here.
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    await connection.execute("SELECT 1")


def _deliver(callback: Callable[[str | None, str, str], None], payload: str) -> None:
    kind, separator, rest = payload.partition(":")
    user_id, second, subject = rest.partition(":")
    if separator and second:
        callback(kind, user_id, subject)
    else:
        _LOG.warning("configuration listener ignored a malformed notification")
        callback(None, "", "")
