"""`modelpilot.metrics.analytics.MetricsReader` on Postgres."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow

from infra.db.engine import Database
from infra.db.repositories.paging import decode_cursor, decode_moment_cursor, encode_cursor, make_page, moment_cursor
from infra.db.totals import read_totals
from modelpilot.errors import InvalidRequest
from modelpilot.management.resources import Page
from modelpilot.metrics.analytics import MetricsFilter, Row, Totals

_REQUEST_COLUMNS = """request_id, router_id, api_key_id, created_at, completed_at, model, provider, status, success,
    finish_reason, request_type, latency_ms, ttft_ms, overhead_ms, cost_usd, carbon_g, input_tokens, output_tokens,
    cached_tokens, reasoning_tokens, quality, quality_source, attempts, fallback_used, degraded, explored, propensity,
    config_version, prompt_hash, session_id, stream, error_code"""


class PostgresMetrics:
    """See MetricsReader. Statements are built from the filters that are given: one plan for all of them would be that
    of none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def requests(self, wanted: MetricsFilter, cursor: str | None, limit: int) -> Page[Row]:
        """By (created_at, request_id), newest first: in the order of the index of the owner (or of the router)."""
        conditions, given = of_requests(wanted)
        if cursor is not None:
            conditions.append("(created_at, request_id) < (%(at)s, %(after_id)s)")
            given |= decode_moment_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT {_REQUEST_COLUMNS} FROM requests WHERE {" AND ".join(conditions)}
            ORDER BY created_at DESC, request_id DESC LIMIT %(limit)s""",  # noqa: S608  (own constants)
            {**given, "limit": limit + 1},
        )
        return make_page(rows, limit, _itself, lambda row: moment_cursor(row, "request_id"))

    async def hourly(self, wanted: MetricsFilter, cursor: str | None, limit: int) -> Page[Row]:
        """By (hour, router, model, provider), newest first."""
        conditions, given = of_hours(wanted)
        if cursor is not None:
            conditions.append(
                "(hour, router_id, model, provider) < (%(at)s, %(c_router)s, %(c_model)s, %(c_provider)s)"
            )
            given |= _hour_cursor(cursor)
        rows = await self._database.fetch_all(
            f"""SELECT * FROM hourly_metrics WHERE {" AND ".join(conditions)}
            ORDER BY hour DESC, router_id DESC, model DESC, provider DESC LIMIT %(limit)s""",  # noqa: S608
            {**given, "limit": limit + 1},
        )
        return make_page(rows, limit, _itself, _after_hour)

    async def totals(self, wanted: MetricsFilter) -> Totals:
        """From hourly rows where whole hours are up to date, from single requests otherwise."""
        requests, given = of_requests(wanted, times=False)
        hours, _ = of_hours(wanted, times=False)
        return await read_totals(self._database, wanted, requests, hours, given)


def of_requests(wanted: MetricsFilter, *, times: bool = True) -> tuple[list[str], dict[str, Any]]:
    """Conditions on `requests` and their parameters."""
    conditions = _common(wanted, "created_at" if times else None)
    if wanted.router_id is not None:
        conditions.append("router_id = %(router_id)s" if wanted.router_id else "router_id IS NULL")
    return conditions, _given(wanted)


def of_hours(wanted: MetricsFilter, *, times: bool = True) -> tuple[list[str], dict[str, Any]]:
    """Conditions on `hourly_metrics` (or `hourly_baselines`) and their parameters."""
    conditions = _common(wanted, "hour" if times else None)
    if wanted.router_id is not None:
        conditions.append("router_id = %(router_id)s")
    return conditions, _given(wanted)


def _common(wanted: MetricsFilter, moment: str | None) -> list[str]:
    conditions = ["user_id = %(user_id)s"]
    if wanted.routers is not None:
        conditions.append("router_id = ANY (%(routers)s)")
    conditions += [f"{name} = %({name})s" for name in ("model", "provider") if getattr(wanted, name) is not None]
    if moment and wanted.start is not None:
        conditions.append(f"{moment} >= %(start)s")
    if moment and wanted.end is not None:
        conditions.append(f"{moment} < %(end)s")
    return conditions


def _given(wanted: MetricsFilter) -> dict[str, Any]:
    return {
        "user_id": wanted.user_id,
        "routers": None if wanted.routers is None else sorted(wanted.routers),
        "router_id": wanted.router_id,
        "model": wanted.model,
        "provider": wanted.provider,
        "start": wanted.start,
        "end": wanted.end,
    }


def _itself(row: DictRow) -> Row:
    return row


def _after_hour(row: DictRow) -> str:
    return encode_cursor(int(row["hour"].timestamp()), row["router_id"], row["model"], row["provider"])


def _hour_cursor(cursor: str) -> dict[str, Any]:
    kinds: Sequence[type] = (int, str, str, str)
    hour, router_id, model, provider = decode_cursor(cursor, tuple(kinds))
    try:
        at = datetime.fromtimestamp(hour, UTC)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest("cursor is not one that this server returned", param="cursor") from None
    return {"at": at, "c_router": router_id, "c_model": model, "c_provider": provider}
