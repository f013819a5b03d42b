"""Databases that live for one test."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from infra.local.postgres import PostgresPlan


@contextmanager
def temporary_database(server: PostgresPlan, template: str = "template1") -> Iterator[str]:
    """A new database, a copy of `template` (cheap: a copy of its files); dropped at the end, clients or not."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield name
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
