"""When percentiles are those of a sample of requests, and how large that is. A sample is taken in whole pages of the
table, which hold requests of all tenants and times: it is small beside the table only where the range is not."""

from typing import LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

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
