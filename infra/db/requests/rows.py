"""Turns domain records into JSON rows for Postgres and back. Pure: no connection in here."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from sqlmodel import SQLModel

from infra.crypto.keyring import Keyring, associate
from infra.db.schema.requests import AttemptRow, RequestRow
from modelpilot.learning.quality import Evidence, combine
from modelpilot.metrics.savings import NOTHING_KNOWN, Alternative, counterfactuals
from modelpilot.requests.outcome import Adjustment, Attempt, BillLine, Outcome, Segment, Usage
from modelpilot.requests.records import HistoryPoint, HistoryScope, RequestKey, RequestRecord
from modelpilot.wire.jsonb import load


def _columns(row: type[SQLModel], record: type[Any]) -> tuple[str, ...]:
    return tuple(name for name in row.model_fields if name in record.__dataclass_fields__)


# What columns and records call by the same name; columns that hold it in another form are set besides.
_OF_RECORD = _columns(RequestRow, RequestRecord)
_OF_OUTCOME = _columns(RequestRow, Outcome)
_OF_ATTEMPT = _columns(AttemptRow, Attempt)

_OF_POINT = tuple(name for name in HistoryPoint.__dataclass_fields__ if name not in ("scope", "embedding"))
_EMBEDDING_DTYPE = np.dtype("<f4")

_REPLACEMENT = "\ufffd"
_TOKENS = tuple(Usage.__dataclass_fields__)
_MOST_TOKENS = 10**12  # of which nine million rows fit into a sum
# Times beyond what a calendar can hold come from a broken clock; they are clamped rather than lost.
_EARLIEST_S, _LATEST_S = 0.0, 253_402_300_799.0


def moment(seconds: float) -> datetime:
    """Unix seconds as a UTC time, clamped to 1970 … 9999."""
    return datetime.fromtimestamp(min(max(seconds, _EARLIEST_S), _LATEST_S), UTC)


def _finite(value: float) -> float:
    """For columns that must not be null: JSON has no NaN and no infinity, and a row is worth more than a bad figure."""
    return value if math.isfinite(value) else 0.0


def seconds(value: datetime | None) -> float | None:
    """A time from Postgres as Unix seconds."""
    return None if value is None else value.timestamp()


def dump_json(value: Any) -> str:
    """JSON that Postgres accepts: NUL and lone surrogates, which it does not, become U+FFFD."""
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate, or an integer over 64 bits
        encoded = None
    if encoded is None or b"\\u0000" in encoded:
        encoded = orjson.dumps(_cleaned(value), option=orjson.OPT_NON_STR_KEYS)
    return encoded.decode()


def clean_text(text: str) -> str:
    """The text without what a Postgres `text` cannot hold."""
    if text.isascii() and "\0" not in text:
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", _REPLACEMENT)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1023 else None
    return value


def load_outcome(encoded: bytes) -> Outcome:
    """The outcome in what `jsonb.dump` wrote. Fields that a newer version wrote are ignored."""
    plain = load(encoded)
    attempts = tuple(_attempt(attempt, _usage(attempt["usage"])) for attempt in plain.pop("attempts"))
    usage = _usage(plain.pop("usage"))
    segments = tuple(Segment(**segment) for segment in plain.pop("segments", ()))
    adjusted = tuple(Adjustment(**each) for each in plain.pop("adjusted", ()))
    known = {name: plain[name] for name in Outcome.__dataclass_fields__ if name in plain}
    return Outcome(**known, attempts=attempts, usage=usage, segments=segments, adjusted=adjusted)


def _usage(plain: Mapping[str, Any]) -> Usage:
    return Usage(**{name: plain[name] or 0 for name in _TOKENS if name in plain})  # null: a row of before


_BUILT = ("usage", "bill")


def _attempt(plain: Mapping[str, Any], usage: Usage) -> Attempt:
    known = {name: plain[name] for name in Attempt.__dataclass_fields__ if name in plain and name not in _BUILT}
    return Attempt(**known, usage=usage, bill=tuple(BillLine(**line) for line in plain.get("bill") or ()))


def _token_columns(usage: Usage) -> dict[str, int]:
    """Token counts within what a bigint holds, whatever a provider claims."""
    return {name: min(max(getattr(usage, name), 0), _MOST_TOKENS) for name in _TOKENS}


def request_row(record: RequestRecord) -> dict[str, Any]:
    """The columns of `requests`."""
    outcome = record.outcome
    return {
        **{name: getattr(record, name) for name in _OF_RECORD},
        **{name: getattr(outcome, name) for name in _OF_OUTCOME},
        "user_id": record.key.user_id,
        "request_id": record.key.request_id,
        "created_at": moment(record.created_at),
        "completed_at": moment(record.completed_at),
        "latency_ms": _finite(outcome.latency_ms),
        "overhead_ms": _finite(record.overhead_ms),
        "propensity": _finite(record.propensity),
        **_token_columns(outcome.usage),
        "success": outcome.success,
        **_quality_columns(outcome.quality),
        "attempts": len(outcome.attempts),
        **_baseline_columns(record),
    }


def _baseline_columns(record: RequestRecord) -> dict[str, Any]:
    """What the aggregation adds up, so that it need not look into a million decisions."""
    outcome, known = record.outcome, NOTHING_KNOWN
    if outcome.status == "completed":
        known = counterfactuals(record.decision, Alternative(outcome.model, outcome.cost_usd, record.carbon_g))
    columns: dict[str, Any] = {}
    for name in ("preferred", "best", "cheapest"):
        found: Alternative = getattr(known, name)
        columns[f"{name}_model"] = found.model
        columns[f"{name}_cost_usd"], columns[f"{name}_carbon_g"] = found.cost_usd, found.carbon_g
    return columns | {"predicted_cost_usd": known.predicted.cost_usd, "predicted_carbon_g": known.predicted.carbon_g}


def _quality_columns(checks: float | None) -> dict[str, Any]:
    """At request time only the checks have spoken; their word is kept, whoever speaks later."""
    known = combine(Evidence(checks=checks))
    return {
        "quality": known and known.value,
        "quality_source": known and known.source,
        "quality_confidence": known and known.confidence,
        "checks_quality": checks,
    }


def _attempt_place(key: RequestKey, seq: int) -> bytes:
    return associate("attempt", key.user_id, key.request_id, str(seq))


def attempt_row(key: RequestKey, attempt: Attempt, keyring: Keyring) -> dict[str, Any]:
    """The columns of `attempts`; the message is encrypted, as it may quote the prompt."""
    message = None
    if attempt.message is not None:
        plain = attempt.message.encode("utf-8", "surrogatepass")
        message = "\\x" + keyring.encrypt(plain, _attempt_place(key, attempt.seq)).hex()
    return {
        **{name: getattr(attempt, name) for name in _OF_ATTEMPT},
        "user_id": key.user_id,
        "request_id": key.request_id,
        "message_encrypted": message,
        "latency_ms": _finite(attempt.latency_ms),
        **_token_columns(attempt.usage),
        "started_at": moment(attempt.started_at),
    }


def attempt_from_row(key: RequestKey, row: Mapping[str, Any], keyring: Keyring) -> Attempt:
    """An attempt from its columns."""
    sealed = row["message_encrypted"]
    message = None
    if sealed is not None:
        message = keyring.decrypt(sealed, _attempt_place(key, row["seq"])).decode("utf-8", "surrogatepass")
    plain = {**row, "message": message, "started_at": row["started_at"].timestamp()}
    return _attempt(plain, _usage(row))


def outcome_from_row(row: Mapping[str, Any], attempts: tuple[Attempt, ...]) -> Outcome:
    """What the columns alone know of an outcome, once its payload has expired."""
    known = {name: row[name] for name in _OF_OUTCOME}
    return Outcome(**known | {"attempts": attempts, "usage": _usage(row)})


def record_from_row(key: RequestKey, row: Mapping[str, Any], outcome: Outcome) -> RequestRecord:
    """The terminal row again, around an outcome."""
    other = {
        "created_at": row["created_at"].timestamp(),
        "completed_at": row["completed_at"].timestamp(),
        "degraded": tuple(row["degraded"]),
    }
    return RequestRecord(key=key, outcome=outcome, **{name: row[name] for name in _OF_RECORD} | other)


def outbox_row(point: HistoryPoint) -> tuple[str, bytes]:
    """A history point for the outbox: as JSON, and its embedding as little-endian float32."""
    plain = {name: getattr(point, name) for name in _OF_POINT}
    plain["scope"] = {"user_id": point.scope.user_id, "router_id": point.scope.router_id}
    return dump_json(plain), np.asarray(point.embedding, _EMBEDDING_DTYPE).tobytes()


def point_from_row(row: Mapping[str, Any]) -> HistoryPoint:
    """The history point again."""
    plain = row["point"]
    known = {name: plain[name] for name in _OF_POINT if name in plain}
    embedding = np.frombuffer(row["embedding"], _EMBEDDING_DTYPE).astype(np.float32)
    return HistoryPoint(**known, scope=HistoryScope(**plain["scope"]), embedding=embedding)
