"""Sample records for tests of `infra.db`."""

from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from infra.crypto.keyring import Keyring, generate_key
from modelpilot.requests.outcome import Attempt, Outcome, Usage
from modelpilot.requests.records import RequestKey, RequestRecord

NOW = 1_790_000_000.25  # Unix seconds


def table_text(url: str, table: str) -> str:
    """Everything in a table, as text: what somebody who reads the database sees."""
    query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))
    with psycopg.connect(url) as connection:
        return str(connection.execute(query).fetchall())


def keyring() -> Keyring:
    """A keyring of one fresh key."""
    return Keyring([generate_key()])


def attempt(seq: int = 0, **changes: Any) -> Attempt:
    """A successful provider call."""
    usage = Usage(input_tokens=12, output_tokens=34, cached_tokens=5, reasoning_tokens=6)
    call = Attempt(seq, "sim/small", "simulator", "ok", None, 200, None, 812.5, 101.25, 0.00012, usage, NOW)
    return replace(call, **{"deployment": "simulator/small#2", **changes})


def outcome(**changes: Any) -> Outcome:
    """A completed request with two attempts."""
    failed = attempt(0, status="error", error_type="server_error", http_status=503, message="overloaded", cost_usd=None)
    plain = Outcome(
        status="completed",
        model="sim/small",
        provider="simulator",
        attempts=(failed, attempt(1)),
        answer={"choices": [{"message": {"role": "assistant", "content": "Hello"}}]},
        finish_reason="stop",
        usage=Usage(12, 34, 5, 6),
        cost_usd=0.00012,
        ttft_ms=101.25,
        quality=0.9,
    )
    return replace(plain, **changes)


def record(user_id: str = "alice", request_id: str = "r1", **changes: Any) -> RequestRecord:
    """A terminal row; `outcome` and every other field may be replaced."""
    plain = RequestRecord(
        key=RequestKey(user_id, request_id),
        router_id="support",
        api_key_id="key_1",
        config_version=3,
        created_at=NOW,
        completed_at=NOW + 1.5,
        outcome=outcome(),
        overhead_ms=2.1,
        request_type="chat",
        stream=False,
        decision={"selected": "sim/small", "candidates": [{"model": "sim/small", "total": 0.8}]},
        propensity=1.0,
        explored=False,
        fallback_used=True,
        prompt_hash="abc",
        degraded=("vector",),
        features={"length": 12.0},
        tags={"team": "support"},
        session_id="s1",
    )
    return replace(plain, **changes)
