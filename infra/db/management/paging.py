"""Keyset paging: a cursor names the last row seen, so pages stay right while rows come and go."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import orjson
from psycopg.rows import DictRow

from infra.db.engine import Database
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import Page

Item = TypeVar("Item")
Row = TypeVar("Row")


def encode_cursor(*parts: str | int) -> str:
    """An opaque cursor; URL-safe."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


def _refuse() -> InvalidRequest:
    return InvalidRequest("cursor is not one that this server returned", param="cursor")


def decode_cursor(cursor: str, kinds: tuple[type, ...]) -> list[Any]:
    """The parts again, checked to be of these types. Raises InvalidRequest."""
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        raise _refuse() from None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise _refuse()
    if any(isinstance(part, str) and "\0" in part for part in parts):
        raise _refuse()
    return parts


def decode_moment_cursor(cursor: str | None) -> dict[str, Any]:
    """Query parameters `at` and `after_id` for lists that are ordered by (created_at, id) descending."""
    if cursor is None:
        return {"at": None, "after_id": None}
    at, after_id = decode_cursor(cursor, (str, str))
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise _refuse() from None
    if moment.tzinfo is None:
        raise _refuse()
    return {"at": moment, "after_id": after_id}


def moment_cursor(row: DictRow, id_column: str = "id") -> str:
    """The cursor that continues after this row."""
    return encode_cursor(row["created_at"].isoformat(), row[id_column])


async def newest_first(
    database: Database,
    select: str,
    user_id: str,
    cursor: str | None,
    limit: int,
    build: Callable[[DictRow], Item],
) -> Page[Item]:
    """One page of what `select` (without a WHERE) finds of this owner, by (created_at, id) descending."""
    query = f"""{select}
        WHERE user_id = %(user_id)s AND (%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s, %(after_id)s))
        ORDER BY created_at DESC, id DESC LIMIT %(limit)s + 1"""
    params = {"user_id": user_id, "limit": limit, **decode_moment_cursor(cursor)}
    return make_page(await database.fetch_all(query, params), limit, build, moment_cursor)


def make_page(
    rows: Sequence[Row], limit: int, build: Callable[[Row], Item], cursor: Callable[[Row], str]
) -> Page[Item]:
    """A page out of up to `limit` + 1 rows; the one too many says that there is a next page."""
    shown = rows[:limit]
    following = cursor(shown[-1]) if shown and len(rows) > limit else None
    return Page(tuple(build(row) for row in shown), following)
