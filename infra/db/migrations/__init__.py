"""Alembic migrations from the baseline on, applied by `infra.db.migrate`."""
