"""Alembic's entry point: `infra.db.migrate` hands in a connection that already holds the advisory lock."""

from alembic import context

from infra.db.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
