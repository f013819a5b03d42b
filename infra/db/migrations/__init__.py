"""Alembic migrations, applied by `infra.db.migrate`."""
