"""The tables, by room, as SQLModel classes: the one place that says which columns there are.

New databases are made from them (`infra.db.migrate`), and the statements with long lists of columns take these from
here. A change of a table needs a migration for the databases that are there already; tests compare both. Rows belong to
a user (`user_id`), which is therefore part of every primary key that a client may name.
"""

from sqlmodel import SQLModel

from infra.db.schema import learning, management, metrics, requests

__all__ = ["METADATA", "learning", "management", "metrics", "requests"]

METADATA = SQLModel.metadata
