"""Alembic's entry point: `infra.db.migrate` hands in a connection that already holds the advisory lock."""

from typing import Any, Literal

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

import infra.db.schema  # noqa: F401  (fills SQLModel.metadata)


def _render_item(_kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Migrations name plain SQLAlchemy types, so that they outlive sqlmodel's."""
    return "sa.String()" if isinstance(item, AutoString) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_item=_render_item,
)
with context.begin_transaction():
    context.run_migrations()
