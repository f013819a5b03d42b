"""Sample records for tests of `infra.db`."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import psycopg
from psycopg import sql

from infra.crypto.keyring import Keyring, generate_key
from infra.vectors.milvus import MilvusHistory
from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.requests.outcome import Attempt, Outcome, Usage
from modelpilot.requests.records import HistoryPoint, HistoryScope, RequestKey, RequestRecord, Vector
from modelpilot.routing.router import Router
from modelpilot.wire.events import ServerSentEvent

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
        tags={"team": "support"},
        session_id="s1",
    )
    return replace(plain, **changes)


# Sample configuration for tests of the repositories.

CANARY = "sk-canary-77"


def sample_router(router_id: str = "support", **changes: Any) -> Router:
    """A router of one model."""
    return Router(id=router_id, available_models=["sim/small"], **changes)


def sample_model(model_id: str = "sim/small", **changes: Any) -> ModelSpec:
    """A model of the simulator's."""
    return ModelSpec(id=model_id, provider="simulator", provider_model="small", **changes)


def sample_provider(provider_id: str = "openai", **changes: Any) -> ProviderSpec:
    """A provider without a key."""
    return ProviderSpec(id=provider_id, kind="openai", **changes)


# Sample points for tests of the vector history.

DIMENSION = 16


def unit(index: int) -> Vector:
    """A unit vector along one axis."""
    vector = np.zeros(DIMENSION, np.float32)
    vector[index % DIMENSION] = 1.0
    return vector


def point(scope: HistoryScope, name: str, request_id: str, **changes: object) -> HistoryPoint:
    """What a request left behind; fields may be replaced."""
    made = HistoryPoint(
        point_id=name,
        scope=scope,
        model="sim/small",
        request_id=request_id,
        embedding=unit(0),
        latency_ms=100.0,
        cost_usd=0.5,
        quality=None,
        ttft_ms=10.0,
        input_tokens=10,
        output_tokens=20,
        request_type="chat",
        timestamp=1_000.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def new_history(uri: str, collection: str, **options: object) -> MilvusHistory:
    """A history that is not open yet; options may be replaced."""
    defaults = {"deadline_ms": 2_000.0, "embedder": "test", "dimension": DIMENSION, "collection": collection}
    return MilvusHistory(uri, **{**defaults, **options})  # type: ignore[arg-type]


# Sample chunks of OpenAI's wire format.


def event(value: Any, name: str = "") -> ServerSentEvent:
    """A server-sent event with this value as JSON; bytes are taken as they are."""
    return ServerSentEvent(name, value if isinstance(value, bytes) else orjson.dumps(value))


def chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A chunk of these choices."""
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return {**base, "choices": list(choices), **fields}


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A choice of a chunk; the fields are those of its delta."""
    return {"index": index, "delta": fields, "finish_reason": finish}
