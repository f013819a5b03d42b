"""The connection pools: bounded, with bounded waits, one error for every way in which Postgres can be away.

Plain psycopg and hand-written SQL: the hot path is one fixed statement, and SQLAlchemy's async engine would add a
greenlet switch and a compilation layer to it. SQLAlchemy describes the tables (`infra.db.schema`) and migrates them.
"""

import asyncio
import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from modelpilot.errors import DependencyUnavailable, InvalidRequest

Params = Sequence[Any] | Mapping[str, Any] | None
Connection = AsyncConnection[DictRow]
SyncConnection = psycopg.Connection[DictRow]

RETRY_AFTER_S = 2.0
_CONNECT_TIMEOUT_S = 3
_LOG = logging.getLogger(__name__)

# Class 40 (deadlock, serialization failure) is an OperationalError too, but the server is there: not "unavailable".
_NOT_OUTAGES = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
# A standby that was promoted away answers, but takes no writes.
_OUTAGES = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)


class ConnectionLost(DependencyUnavailable):
    """The connection broke in mid-statement: whether it was committed is unknown, and a repeat may work at once."""


def plain_url(url: str) -> str:
    """The URL as libpq wants it, without SQLAlchemy's driver name."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


async def _configure(connection: Connection) -> None:
    set_json_loads(orjson.loads, connection)
    set_json_dumps(orjson.dumps, connection)


async def _check(connection: Connection) -> None:
    """Refuse a connection that the server has closed, without a round trip.

    An idle connection has nothing to say; a readable socket means a goodbye (restart, failover) or a stray notice, and
    only then a real check is worth its round trip.
    """
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN | select.POLLHUP)
    if poller.poll(0):
        await AsyncConnectionPool.check_connection(connection)


class _Deadline:
    """Hangs up when time is over. A canceled wait would first ask the server to cancel, and a frozen server does not
    listen: that takes ten seconds more."""

    def __init__(self, connection: Connection, limit_s: float) -> None:
        self.passed = False
        self._connection = connection
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._hang_up)

    def cancel(self) -> None:
        """The work is done in time."""
        self._timer.cancel()

    def _hang_up(self) -> None:
        self.passed = True
        if not self._connection.closed:
            with socket.socket(fileno=os.dup(self._connection.fileno())) as wire, suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


class Database:
    """Postgres for one process and one event loop. `open` never waits for the server: calls do, for a bounded time."""

    def __init__(
        self, url: str, *, min_size: int = 1, max_size: int = 10, wait_s: float = 2.0, operation_s: float = 10.0
    ) -> None:
        """`wait_s` bounds the wait for a free connection, `operation_s` what is then done with it."""
        self._url = plain_url(url)
        self._operation_s = operation_s
        given = conninfo_to_dict(self._url)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self._url,
            connection_class=AsyncConnection[DictRow],
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "connect_timeout": given.get("connect_timeout", _CONNECT_TIMEOUT_S),
                "application_name": given.get("application_name", "modelpilot"),
            },
            min_size=min_size,
            max_size=max_size,
            timeout=wait_s,
            # Give up early and let the next caller try anew: the library's back-off would sleep through a recovery.
            reconnect_timeout=wait_s,
            configure=_configure,
            check=_check,
            open=False,
            name="modelpilot",
        )

    @property
    def url(self) -> str:
        """For those that need a connection of their own (the notification listener). May contain a password."""
        return self._url

    async def open(self) -> None:
        """Start connecting in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection. Callers that wait get DependencyUnavailable."""
        await self._pool.close(timeout=2.0)

    async def __aenter__(self) -> "Database":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def connection(self, operation_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection in autocommit mode. Raises DependencyUnavailable (from the body, too)."""
        deadline = None
        try:
            async with self._pool.connection() as connection:
                deadline = _Deadline(connection, operation_s or self._operation_s)
                try:
                    yield connection
                finally:
                    deadline.cancel()
        except (PoolTimeout, PoolClosed, TooManyRequests) as error:
            raise DependencyUnavailable("Postgres gave no connection in time", retry_after_s=RETRY_AFTER_S) from error
        except (psycopg.DataError, UnicodeEncodeError) as error:
            # NUL, lone surrogates, numbers out of range: what a caller gave us cannot be stored or asked for.
            raise InvalidRequest("a value contains characters or numbers that cannot be stored") from error
        except _NOT_OUTAGES:
            raise
        except _OUTAGES as error:
            _LOG.warning("postgres unavailable: %s", type(error).__name__)
            if deadline is not None and deadline.passed:
                raise DependencyUnavailable("Postgres did not answer in time", retry_after_s=RETRY_AFTER_S) from error
            lost = deadline is not None and not isinstance(error, psycopg.errors.QueryCanceled)
            kind = ConnectionLost if lost else DependencyUnavailable
            raise kind("Postgres is not reachable", retry_after_s=RETRY_AFTER_S) from error

    @asynccontextmanager
    async def transaction(self, operation_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection inside of a transaction: committed at the end, rolled back on any exception."""
        async with self.connection(operation_s) as connection, connection.transaction():
            yield connection

    async def fetch_all(self, query: str, params: Params = None, *, idempotent: bool = True) -> list[DictRow]:
        """All rows of one statement, committed by itself. An idempotent one is repeated once on a broken connection."""
        try:
            return await self._fetch_once(query, params)
        except ConnectionLost:
            if not idempotent:
                raise
        return await self._fetch_once(query, params)

    async def _fetch_once(self, query: str, params: Params) -> list[DictRow]:
        async with self.connection() as connection:
            cursor = await connection.execute(query, params)
            return await cursor.fetchall() if cursor.description else []

    async def fetch_one(self, query: str, params: Params = None, *, idempotent: bool = True) -> DictRow | None:
        """The first row, or None."""
        rows = await self.fetch_all(query, params, idempotent=idempotent)
        return rows[0] if rows else None

    async def probe_one(self, query: str, within_s: float) -> DictRow | None:
        """As `fetch_one`, but the server has only so long to answer."""
        async with self.connection(within_s) as connection:
            return await (await connection.execute(query)).fetchone()

    async def ping(self) -> None:
        """One round trip. Raises DependencyUnavailable."""
        await self.fetch_one("SELECT 1")


class SyncPool:
    """Postgres for the analytics site, which is synchronous since Dash is. May be used from many threads."""

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = True,
        max_connections: int = 4,
        wait_s: float = 2.0,
        statement_s: float = 10.0,
    ) -> None:
        """Starts to connect in the background. `wait_s` bounds the wait for a connection, `statement_s` a query."""
        self._pool: ConnectionPool[SyncConnection] = ConnectionPool(
            plain_url(url),
            connection_class=psycopg.Connection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "connect_timeout": 3,
                "application_name": "modelpilot-dashboard",
                # An hour and a month want different plans: one that is kept for both would suit neither.
                "prepare_threshold": None,
                # Compiling a query takes longer than what it would save here.
                "options": f"-c statement_timeout={int(statement_s * 1_000)} -c jit=off",
            },
            min_size=0,
            max_size=max_connections,
            timeout=wait_s,
            reconnect_timeout=wait_s,
            configure=_one_snapshot if read_only else None,
            check=ConnectionPool.check_connection,
            open=True,
            name="modelpilot-dashboard",
        )

    def close(self) -> None:
        """Close every connection; waits at most a second for those in use."""
        self._pool.close(timeout=1.0)

    @contextmanager
    def transaction(self) -> Iterator[SyncConnection]:
        """A connection whose transaction ends with the block. Raises DependencyUnavailable."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.UndefinedTable as error:
            message = "Postgres has no ModelPilot tables yet: run `modelpilot migrate`."
            raise DependencyUnavailable(message, retry_after_s=RETRY_AFTER_S) from error
        except psycopg.errors.QueryCanceled as error:
            raise DependencyUnavailable("Postgres did not answer in time.", retry_after_s=RETRY_AFTER_S) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise DependencyUnavailable("Postgres is not reachable.", retry_after_s=RETRY_AFTER_S) from error


def _one_snapshot(connection: SyncConnection) -> None:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
