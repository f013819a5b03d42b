"""What a process that begins learns from the rows of requests about the tokens that models count."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.db.engine import Database
from infra.db.learning.token_reports import PostgresTokenReports
from infra.db.requests.ledger import PostgresLedger
from modelpilot.providers.token_ratios import TokenRatios, TokenReport
from modelpilot.requests.outcome import Usage
from tests.support.samples import attempt, keyring, outcome, record

COUNTED = {"promptTokens": 1_000, "textTokens": 1_000}


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[PostgresLedger]:
    """A ledger on a database with two tenants."""
    await database.fetch_all("INSERT INTO users (id, operator) VALUES ('alice', false), ('bob', false)")
    opened = PostgresLedger(database, keyring())
    yield opened
    await opened.close()


async def _recorded(ledger: PostgresLedger, request_id: str, tokens: int, **changes: Any) -> None:
    usage = Usage(tokens, 5)
    fields: dict[str, Any] = {"decision": COUNTED, "user_id": "alice"} | changes
    estimated, calls = fields.pop("estimated", None), fields.pop("calls", 1)
    attempts = tuple(attempt(seq) for seq in range(calls))
    told = outcome(model="sim/small", usage=usage, attempts=attempts, estimated=estimated)
    now = time.time()
    await ledger.record(record(request_id=request_id, outcome=told, created_at=now - 1.0, completed_at=now, **fields))


async def test_the_newest_reports_teach_what_a_model_counts(ledger: PostgresLedger, database: Database) -> None:
    """Of each owner, and only where both counts are about the same text and the provider's is its own."""
    for number in range(12):
        await _recorded(ledger, f"r{number}", 1_300)
    await _recorded(ledger, "other", 700, user_id="bob")
    await _recorded(ledger, "estimated", 9, estimated="the provider did not count the input tokens")
    await _recorded(ledger, "picture", 9, decision={"promptTokens": 1_765, "textTokens": 1_000})
    await _recorded(ledger, "before", 9, decision={"promptTokens": 1_000})
    await _recorded(ledger, "repeated", 9, calls=2)
    await _recorded(ledger, "judge", 9, purpose="judge")
    reports = await PostgresTokenReports(database).recent()
    mine = TokenReport("alice", "sim/small", 1_000, 1_300)
    assert sorted(reports) == [mine] * 12 + [TokenReport("bob", "sim/small", 1_000, 700)]
    assert list(await PostgresTokenReports(database).recent("alice")) == [mine] * 12
    ratios = TokenRatios()
    ratios.recall(reports)
    assert ratios.of("alice")["sim/small"] == pytest.approx(1.25, rel=0.05)
