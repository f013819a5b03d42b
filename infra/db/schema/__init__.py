"""The tables, by room. Importing this package fills `SQLModel.metadata` with all of them."""

from infra.db.schema import learning, metrics, site, tables

__all__ = ["learning", "metrics", "site", "tables"]
