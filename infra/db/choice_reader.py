"""What there is to filter by on the analytics site: `modelpilot.metrics.overview.ChoiceReader` on Postgres."""

from typing import LiteralString

from infra.db.sync_pool import SyncPool
from modelpilot.metrics.overview import Choices

_DAYS = 90
_MOST = 1_000  # a filter with more is no longer one to choose from

# The hourly sums are few rows; the hours that are not summed up yet are read from the requests themselves. DISTINCT in
# each part: of both together, Postgres would not know how few names there are, and sort.
_CHOICES: LiteralString = """
WITH named AS (
    SELECT DISTINCT router_id, model, provider FROM hourly_metrics
    WHERE hour > now() - make_interval(days => %(days)s) AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
    UNION
    SELECT DISTINCT router_id, model, provider FROM requests
    WHERE created_at > now() - interval '2 hours' AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
)
SELECT array(SELECT DISTINCT router_id FROM named WHERE router_id > '' ORDER BY 1 LIMIT %(most)s) AS routers,
       array(SELECT DISTINCT model FROM named WHERE model > '' ORDER BY 1 LIMIT %(most)s) AS models,
       array(SELECT DISTINCT provider FROM named WHERE provider > '' ORDER BY 1 LIMIT %(most)s) AS providers"""


class PostgresChoiceReader:
    """Implements `modelpilot.metrics.overview.ChoiceReader`."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool

    def choices(self, user_id: str | None) -> Choices:
        """Names in a tenant's requests of the last 90 days, of every tenant for None. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            row = connection.execute(_CHOICES, {"user_id": user_id, "days": _DAYS, "most": _MOST}).fetchone() or {}
        return Choices(*(tuple(row.get(name) or ()) for name in ("routers", "models", "providers")))

    def tenants(self) -> tuple[str, ...]:
        """Every tenant, by name; for admins only. Raises DependencyUnavailable."""
        with self._pool.transaction() as connection:
            rows = connection.execute("SELECT id FROM users ORDER BY id LIMIT %s", (_MOST,)).fetchall()
        return tuple(row["id"] for row in rows)
