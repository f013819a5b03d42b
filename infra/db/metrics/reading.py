"""What the site's readers have in common: whose rows and from when, and when the newest request came."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import LiteralString

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from infra.db.engine import RETRY_AFTER_S, plain_url
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.overview import AnalyticsScope

# A condition on any table with tenants: None means all of them.
OF_USER: LiteralString = "(%(user_id)s::text IS NULL OR user_id = %(user_id)s)"

# The index orders requests within their owner, so the newest of all is found among the newest of each.
_LATEST: LiteralString = """
SELECT max(newest.created_at) AS latest FROM users CROSS JOIN LATERAL (
    SELECT created_at FROM requests WHERE requests.user_id = users.id ORDER BY created_at DESC LIMIT 1
) AS newest
WHERE %(user_id)s::text IS NULL OR users.id = %(user_id)s"""


def moments(scope: AnalyticsScope) -> tuple[datetime, datetime]:
    """The scope's bounds as Postgres wants them."""
    return datetime.fromtimestamp(scope.start_s, UTC), datetime.fromtimestamp(scope.end_s, UTC)


def latest_request_s(connection: Connection[DictRow], user_id: str | None) -> float | None:
    """When the tenant's newest request began (Unix seconds), whatever the range; None: it has none."""
    (row,) = connection.execute(_LATEST, {"user_id": user_id}).fetchall()
    return row["latest"].timestamp() if row["latest"] else None


# When percentiles are those of a sample of requests, and how large that is. A sample is taken in whole pages of the
# table, which hold requests of all tenants and times: it is small beside the table only where the range is not.

# The same sample each time, so that a refresh does not make the figures tremble. For a share of `percent_of_pages`.
SAMPLED: LiteralString = "requests TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (1)"

# What Postgres last counted; -1 before it has.
_ROWS: LiteralString = "SELECT reltuples::bigint AS n FROM pg_class WHERE oid = 'requests'::regclass"


def percent_of_pages(connection: Connection[DictRow], requests: int, wanted: int) -> float | None:
    """Of `requests` in a range, about `wanted` are on this share (in %) of the table's pages.

    None: all of them are to be read, since they are few, or fewer than there are on those pages.
    """
    if requests <= wanted:
        return None
    row = connection.execute(_ROWS).fetchone() or {"n": 0}
    share = wanted / requests
    return 100.0 * share if share * max(row["n"], requests) < requests else None


# A small synchronous pool for the analytics site, which is synchronous since Dash is.
#
# The gateway's asynchronous pool (`engine.py`) lives in another process.


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
