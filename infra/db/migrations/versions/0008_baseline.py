"""The schema of 0.1.0, from which databases are upgraded. `infra.db.migrate` makes new ones from `infra.db.schema`."""

revision = "0008"
down_revision = None


def upgrade() -> None:
    """Change nothing: every database that can be upgraded has this schema or a later one."""
