"""The owner's models over the shared catalogue: an own one hides the shared one of the same id."""

from psycopg.rows import DictRow

from infra.db.engine import Database
from infra.db.management.changes import Change
from infra.db.management.paging import decode_cursor, encode_cursor, make_page
from infra.db.management.resources import PostgresRepository, times
from infra.db.requests.forgetting import forget_history
from modelpilot.errors import PermissionDenied
from modelpilot.management.resources import EVERY_MODEL, SHARED_OWNER, ModelFilter, Page, StoredModel
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.erasure import Forgotten

# The empty owner (shared) sorts before every other, so "descending" puts the owner's own model first.
_GET = "SELECT * FROM models WHERE user_id IN (%s, '') AND id = %s ORDER BY user_id DESC LIMIT 1"

_LIST = """
SELECT DISTINCT ON (id) * FROM models
WHERE user_id IN (%(user_id)s, '') AND (%(after_id)s::text IS NULL OR id > %(after_id)s)
ORDER BY id, user_id DESC LIMIT %(limit)s + 1
"""


def _stored(row: DictRow) -> StoredModel:
    return StoredModel(ModelSpec.model_validate(row["body"]), *times(row), shared=row["user_id"] == SHARED_OWNER)


class PostgresModelRepository(PostgresRepository[ModelSpec, StoredModel]):
    """Implements `modelpilot.management.resources.ModelRepository`. Raises PermissionDenied for the shared owner."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "model", "models", _stored)
        self._get_sql = _GET

    async def list(
        self, user_id: str, cursor: str | None, limit: int, wanted: ModelFilter = EVERY_MODEL
    ) -> Page[StoredModel]:
        """Own and shared, by id: those that are wanted, out of as many pages of all as it takes."""
        after_id = decode_cursor(cursor, (str,))[0] if cursor is not None else None
        taken: list[StoredModel] = []
        while True:
            params = {"user_id": user_id, "limit": limit, "after_id": after_id}
            rows = await self._database.fetch_all(_LIST, params)
            taken += [found for found in map(_stored, rows) if wanted.takes(found.body)]
            if len(rows) <= limit or len(taken) > limit:
                return make_page(taken, limit, lambda found: found, lambda found: encode_cursor(found.body.id))
            after_id = rows[-1]["id"]

    async def delete(self, user_id: str, subject: str, actor: str) -> None:
        """Remove the owner's model; a shared one shows again. Raises NotFound, PermissionDenied (shared only)."""
        _refuse_shared_owner(user_id)
        await super().delete(user_id, subject, actor)

    async def _write(self, user_id: str, body: ModelSpec, actor: str, *, replace: bool) -> StoredModel:
        _refuse_shared_owner(user_id)
        return await super()._write(user_id, body, actor, replace=replace)

    def _owns(self, user_id: str, row: DictRow) -> bool:
        return bool(row["user_id"] == user_id)

    async def _remove(self, change: Change, old: DictRow) -> None:
        if not self._owns(change.user_id, old):
            raise PermissionDenied(f"model {change.subject!r} belongs to the shared catalogue, which is read-only")
        await super()._remove(change, old)
        # What was learnt of it goes as well: another one of its name, or the shared one, begins anew.
        await forget_history(change.connection, Forgotten(change.user_id, model=change.subject))


def _refuse_shared_owner(user_id: str) -> None:
    if user_id == SHARED_OWNER:
        raise PermissionDenied("the shared catalogue is read-only")
