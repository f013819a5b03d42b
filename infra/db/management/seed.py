"""What the first start puts into an empty database: the operator with its key, the shared catalogue, a demo router."""

from collections.abc import Sequence

from psycopg.types.json import Jsonb

from infra.crypto.secrets import display_prefix, generate_secret, hash_secret
from infra.db.engine import Database
from infra.db.management.changes import changing
from infra.db.management.routers import PostgresRouterRepository
from modelpilot.errors import Conflict, NotFound
from modelpilot.management.resources import ALL_SCOPES, OPERATOR_USER, SHARED_OWNER
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.routing.router import FallbackStrategy, Objective, Router

SEED_ACTOR = "modelpilot"
_ADMIN_KEY_ID = "key_admin"

_ADD_OPERATOR = """
INSERT INTO users (id, operator) VALUES (%s, true) ON CONFLICT (id) DO UPDATE SET operator = true
"""

_HAS_KEY = "SELECT 1 FROM api_keys WHERE user_id = %s AND 'admin' = ANY (scopes) LIMIT 1"

_ADD_KEY = """
INSERT INTO api_keys (id, user_id, name, prefix, key_hash, scopes, active)
VALUES (%s, %s, 'admin', %s, %b, %s, true)
"""

# Rows that did not change stay untouched, so that a restart neither writes nor empties anybody's cache.
_UPSERT_CATALOGUE = """
INSERT INTO models (user_id, id, body)
SELECT '', wanted ->> 'id', wanted FROM jsonb_array_elements(%s) AS wanted
ON CONFLICT (user_id, id) DO UPDATE SET body = excluded.body, updated_at = clock_timestamp()
WHERE models.body IS DISTINCT FROM excluded.body
RETURNING id
"""

_DROP_CATALOGUE = "DELETE FROM models WHERE user_id = '' AND id <> ALL (%s) RETURNING id"


async def ensure_operator(database: Database, *, secret: str | None = None) -> str | None:
    """Make the operator and an admin key with all scopes where the operator has none; the key's secret, this once, or
    None where there was a key already.

    A caller that writes the secret to a file should generate and write it first and pass it here: then a crash in
    between loses nothing. Safe when many processes start at once.
    """
    secret = secret or generate_secret()
    async with changing(database, "user", OPERATOR_USER, OPERATOR_USER) as change:
        await change.connection.execute(_ADD_OPERATOR, (OPERATOR_USER,))
        if await (await change.connection.execute(_HAS_KEY, (OPERATOR_USER,))).fetchone():
            return None
        params = (_ADMIN_KEY_ID, OPERATOR_USER, display_prefix(secret), hash_secret(secret), list(ALL_SCOPES))
        await change.connection.execute(_ADD_KEY, params)
        await change.done("create", SEED_ACTOR, None, {"id": OPERATOR_USER, "operator": True, "key": _ADMIN_KEY_ID})
    return secret


async def seed_catalogue(database: Database, models: Sequence[ModelSpec]) -> int:
    """Make the shared catalogue exactly these models; how many were added, changed or dropped."""
    async with changing(database, "model", SHARED_OWNER, "*") as change:
        bodies = Jsonb([model.to_wire() for model in models])
        upserted = await (await change.connection.execute(_UPSERT_CATALOGUE, (bodies,))).fetchall()
        ids = [model.id for model in models]
        dropped = await (await change.connection.execute(_DROP_CATALOGUE, (ids,))).fetchall()
        changes = len(upserted) + len(dropped)
        if changes:
            after = {"changed": sorted(row["id"] for row in upserted), "dropped": sorted(row["id"] for row in dropped)}
            await change.done("update", SEED_ACTOR, None, after)
    return changes


def demo_router() -> Router:
    """The router that the README's first request uses: three simulated models, no provider key needed."""
    return Router(
        id="demo",
        name="Demo",
        available_models=["sim/small", "sim/medium", "sim/large"],
        objective=Objective(cost_weight=0.5, latency_weight=0.2, quality_weight=0.3),
        fallback_strategy=FallbackStrategy(fallback_models=["sim/medium"], retry_attempts=3),
        exploration=0.1,  # so that the models which priors rule out get some evidence, too
    )


async def ensure_demo_router(database: Database, router: Router | None = None) -> bool:
    """Make the operator's demo router unless there ever was one (a deleted one stays deleted); whether it was made."""
    routers, wanted = PostgresRouterRepository(database), router or demo_router()
    try:
        await routers.versions(OPERATOR_USER, wanted.id)
    except NotFound:
        try:
            await routers.create(OPERATOR_USER, wanted, SEED_ACTOR)
        except Conflict:  # another process was quicker
            return False
        return True
    return False
