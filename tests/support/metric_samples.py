"""Requests for tests of the aggregation, the analytics API and the warehouse sink, written as gateways write them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from infra.db.engine import Database
from infra.db.requests.ledger import PostgresLedger
from modelpilot.requests.outcome import Usage
from modelpilot.requests.records import RequestKey
from tests.support.database_samples import attempt, keyring, outcome, record

# Long over, and no special day anywhere.
HOUR = datetime(2026, 3, 2, 10, tzinfo=UTC)


def decision(**changes: Any) -> dict[str, Any]:
    """A smart decision among a cheap, a middle and a good model, as the ledger stores it."""
    figures = {"sim/small": (0.001, 0.5, 0.1), "sim/medium": (0.004, 0.7, 0.4), "sim/large": (0.020, 0.9, 2.0)}
    candidates = [
        {
            "model": model,
            "provider": "simulator",
            "cost": {"raw": cost, "unit": "USD", "score": 0.5, "weight": 0.5},
            "latency": {"raw": 800.0, "unit": "ms", "score": 0.5, "weight": 0.2},
            "quality": {"raw": quality, "unit": "share", "score": quality, "weight": 0.3},
            "carbon": {"raw": carbon, "unit": "gCO2e", "score": 0.5, "weight": 0.0},
            "total": 0.5,
            "excludedBecause": None,
        }
        for model, (cost, quality, carbon) in figures.items()
    ]
    plain = {"mode": "smartRouter", "selectedModel": "sim/small", "preferredModel": "sim/medium"}
    return {**plain, "candidates": candidates, **changes}


class Requests:
    """Writes terminal rows through the ledger itself. `recorded` moves their time of recording afterwards."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ledger = PostgresLedger(database, keyring())
        self._count = 0

    async def close(self) -> None:
        """Close the ledger."""
        await self._ledger.close()

    async def add(
        self, at: datetime, *, user: str = "alice", recorded: datetime | None = None, count: int = 1, **changes: Any
    ) -> list[str]:
        """Write `count` requests that began at `at`; their ids. `changes` are fields of the record or its outcome."""
        ids = []
        for _ in range(count):
            self._count += 1
            ids.append(f"r{self._count:05}")
            await self._ledger.record(_record(user, ids[-1], at, changes))
        if recorded is not None:
            await self._database.fetch_all(
                "UPDATE requests SET recorded_at = %s WHERE request_id = ANY (%s)", (recorded, ids)
            )
        return ids


_OF_OUTCOME = {"status", "model", "provider", "finish_reason", "usage", "cost_usd", "ttft_ms", "quality", "latency_ms"}


def _record(user: str, request_id: str, at: datetime, changes: dict[str, Any]) -> Any:
    given = {"model": "sim/small", "cost_usd": 0.002, "usage": Usage(12, 34, 5, 6), **changes}
    of_outcome = {name: value for name, value in given.items() if name in _OF_OUTCOME and name != "latency_ms"}
    call = attempt(0, latency_ms=given.get("latency_ms", 800.0), model=given["model"], usage=given["usage"])
    plain = {"created_at": at.timestamp(), "completed_at": (at + timedelta(seconds=1)).timestamp()}
    of_record = {name: value for name, value in given.items() if name not in _OF_OUTCOME}
    defaults = {"decision": decision(), "carbon_g": 0.2, "fallback_used": False, "degraded": ()}
    made = outcome(attempts=(call,), **of_outcome)
    return record(user, request_id, outcome=made, **{**plain, **defaults, **of_record})


def key_of(request_id: str, user: str = "alice") -> RequestKey:
    """The key of a request that `Requests` wrote."""
    return RequestKey(user, request_id)


def rows_of(url: str, query: str, *given: Any) -> list[dict[str, Any]]:
    """The rows of a query."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode(), given).fetchall()
