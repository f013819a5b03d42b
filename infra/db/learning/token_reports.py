"""What providers reported of prompts' tokens, beside our own counts of them, as the rows of requests have both."""

from collections.abc import Sequence

from infra.db.engine import Database
from modelpilot.providers.token_ratios import TokenReport

# Decisions of before we counted have no `textTokens`, and where there were pictures it is not the whole prompt. They
# are read of the newest rows only, since they lie outside of the table. Of several calls, whose it is is not said.
_RECENT = """
SELECT user_id, model, (decision ->> 'textTokens')::bigint AS counted, input_tokens AS reported
FROM (
    SELECT newest.* FROM (SELECT id FROM users WHERE %(user_id)s::text IS NULL OR id = %(user_id)s) AS owners
    CROSS JOIN LATERAL (
        SELECT user_id, model, decision, input_tokens, created_at FROM requests
        WHERE user_id = owners.id AND created_at > now() - interval '30 days' AND purpose = 'request'
          AND status = 'completed' AND attempts = 1 AND estimated IS NULL AND coalesce(web_searches, 0) = 0
        ORDER BY created_at DESC LIMIT 1000
    ) AS newest
    ORDER BY created_at DESC LIMIT 10000
) AS found
WHERE decision -> 'textTokens' = decision -> 'promptTokens'
ORDER BY created_at DESC
"""


class PostgresTokenReports:
    """The newest reports, by which a process begins to know what models count."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent(self, user_id: str | None = None) -> Sequence[TokenReport]:
        """Of one owner, or of all; the newest first. Raises DependencyUnavailable."""
        rows = await self._database.fetch_all(_RECENT, {"user_id": user_id})
        return [TokenReport(**row) for row in rows]
