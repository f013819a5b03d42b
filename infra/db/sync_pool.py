"""A small synchronous pool for the analytics site, which is synchronous since Dash is.

The gateway's asynchronous pool (`engine.py`) lives in another process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from infra.db.engine import RETRY_AFTER_S, plain_url
from modelpilot.errors import DependencyUnavailable


class SyncPool:
    """Connections with rows as dicts. May be used from many threads."""

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
        self._pool: ConnectionPool[Connection[DictRow]] = ConnectionPool(
            plain_url(url),
            connection_class=Connection[DictRow],
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
    def transaction(self) -> Iterator[Connection[DictRow]]:
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


def _one_snapshot(connection: Connection[DictRow]) -> None:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
