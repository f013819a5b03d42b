"""What the site's readers have in common: whose rows and from when, and when the newest request came."""

from datetime import UTC, datetime
from typing import LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

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
