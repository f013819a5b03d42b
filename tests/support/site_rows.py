"""Requests, attempts and hourly rows of two tenants for tests of the readers behind the analytics site."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.db.engine import Database
from infra.db.metrics.aggregation import PostgresAggregator
from modelpilot.metrics.requests import AnalyticsScope

START_S = 1_772_445_600.0  # 2026-03-02 10:00:00 UTC: long over, so that the aggregation takes it
MODELS = ("sim/small", "sim/large")
ROUTERS = ("demo", "support", None)
TYPES = ("chat", "code")
HOURS = 5
PER_HOUR = 24  # of each tenant
# Neither end is a whole hour: both are cut out of hours that are aggregated.
SCOPE = AnalyticsScope("u1", START_S + 1_800.0, START_S + HOURS * 3_600.0 - 1_800.0)
ALL = AnalyticsScope(None, START_S, START_S + HOURS * 3_600.0)

_DEFAULTS: Mapping[str, Any] = {
    "api_key_id": "k", "config_version": 1, "provider": "simulator", "overhead_ms": 2.0, "cached_tokens": 0,
    "reasoning_tokens": 0, "finish_reason": "stop", "attempts": 1, "degraded": [], "propensity": 1.0,
    "explored": False, "prompt_hash": "h", "stream": False,
}  # fmt: skip


def request(user: str, number: int) -> dict[str, Any]:
    """The columns of a request; every figure follows from its number, so that tests can count by themselves."""
    at = START_S + number * 3_600.0 / PER_HOUR
    failed = number % 8 == 7
    moment = datetime.fromtimestamp(at, UTC)
    return {
        **_DEFAULTS,
        "user_id": user,
        "request_id": f"r{number:04}",
        "router_id": ROUTERS[number % 3],
        "created_at": moment,
        "completed_at": moment,
        "status": "failed" if failed else "completed",
        "model": "" if number % 16 == 15 else MODELS[number % 2],
        "latency_ms": 100.0 + number,
        "ttft_ms": None if failed else 10.0 + number,
        "cost_usd": None if number % 6 == 5 else 0.25,
        "input_tokens": number,
        "output_tokens": 2 * number,
        "success": not failed,
        "request_type": TYPES[number % 2],
        "quality": 0.5 if number % 4 == 0 else None,
        "fallback_used": number % 5 == 0,
        "carbon_g": 0.125,
        "decision": Jsonb({"candidates": [], "selectedModel": "sim/small"}),
        "tags": Jsonb({"team": "a"}),
    }


def within(rows: list[dict[str, Any]], scope: AnalyticsScope) -> list[dict[str, Any]]:
    """Those of `rows` that are in a scope."""
    mine = (row for row in rows if scope.user_id in (None, row["user_id"]))
    return [row for row in mine if scope.start_s <= row["created_at"].timestamp() < scope.end_s]


def insert(connection: psycopg.Connection[Any], table: str, row: Mapping[str, Any]) -> None:
    """Put one row into a table."""
    names = list(row)
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(map(sql.Placeholder, names)),
    )
    connection.execute(statement, row)


def fill(url: str) -> list[dict[str, Any]]:
    """Five hours of requests of `u1` and `u2` (the same ids); all of them."""
    rows = [request(user, number) for user in ("u1", "u2") for number in range(HOURS * PER_HOUR)]
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO users (id, operator) VALUES ('u1', true), ('u2', false)")
        for row in rows:
            insert(connection, "requests", row)
            insert(connection, "attempts", attempt(row))
    return rows


def multiply(connection: psycopg.Connection[Any], times: int) -> None:
    """Put so many of each request into the table, in the order of their times; the copies have ids of their own."""
    names = [column.name for column in connection.execute("SELECT * FROM requests LIMIT 0").description or []]
    values = [sql.SQL("request_id || '-' || n") if name == "request_id" else sql.Identifier(name) for name in names]
    copies = sql.SQL(
        "INSERT INTO requests ({}) SELECT {} FROM requests, generate_series(2, {}) AS n ORDER BY created_at"
    )
    connection.execute(copies.format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(values), times))


def attempt(row: Mapping[str, Any], seq: int = 0, **changes: Any) -> dict[str, Any]:
    """The columns of a provider call of a request."""
    ok = row["status"] == "completed"
    plain = {
        "user_id": row["user_id"], "request_id": row["request_id"], "seq": seq, "model": row["model"] or "sim/small",
        "provider": "simulator", "status": "ok" if ok else "error", "error_type": None if ok else "rate_limited",
        "http_status": 200 if ok else 429, "latency_ms": row["latency_ms"], "ttft_ms": row["ttft_ms"],
        "cost_usd": row["cost_usd"], "input_tokens": 1, "output_tokens": 2, "cached_tokens": 0, "reasoning_tokens": 0,
        "started_at": row["created_at"], "deployment": f"simulator/{row['model'] or 'sim/small'}",
    }  # fmt: skip
    return {**plain, **changes}


async def aggregate(url: str) -> None:
    """Compute every hour that is due, as the worker does."""
    async with Database(url) as database:
        aggregator = PostgresAggregator(database)
        await aggregator.plan()
        for hour in await aggregator.next_hours(1_000):
            await aggregator.aggregate(hour)
