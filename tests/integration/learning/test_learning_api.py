"""Feedback and stored texts over HTTP, on a real Postgres."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from infra.db.requests.housekeeping import Housekeeping
from modelpilot.management.resources import OPERATOR_USER
from modelpilot.requests.records import RequestKey
from tests.support.learning_site import ANSWER, BODY, MakeClient, Site, learning_site
from tests.support.samples import record, table_text


@pytest.fixture
async def site(migrated_url: str, aiohttp_client: MakeClient) -> AsyncIterator[Site]:
    async with learning_site(migrated_url, aiohttp_client) as running:
        yield running


async def test_feedback_changes_the_quality_at_once(site: Site) -> None:
    """A score, then thumbs of the same source: the latest wins, and the row says where its quality comes from."""
    await site.add("r1")
    status, told = await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 0.25, "comment": "so so"})
    assert (status, told) == (200, {"requestId": "r1", "score": 0.25, "quality": 0.25, "qualitySource": "feedback"})
    await site.call("POST", "/v1/feedback", {"requestId": "r1", "thumbs": "up"})
    stored = await site.ledger.find(RequestKey(OPERATOR_USER, "r1"))
    assert stored is not None
    assert stored.record.outcome.quality == 1.0


async def test_end_users_are_told_apart(site: Site) -> None:
    """Each person's word counts beside the others', and who they are is not stored in clear."""
    await site.add("r1")
    for user, score in (("ann@example.org", 1.0), ("bob@example.org", 0.0), ("ann@example.org", 0.5)):
        _, told = await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": score, "user": user})
    assert told["quality"] == pytest.approx(0.25)
    assert "example.org" not in table_text(site.url, "feedback")


async def test_the_clients_own_name_for_a_request_works(site: Site) -> None:
    """`requestId` may be the x-request-id that the client sent with an Idempotency-Key."""
    await site.add("key_1")
    await site.ledger.reserve(OPERATOR_USER, "request-id", "my-name", b"digest", "key_1")
    status, told = await site.call("POST", "/v1/feedback", {"requestId": "my-name", "score": 1})
    assert (status, told["requestId"]) == (200, "key_1")


@pytest.mark.parametrize(
    "fields",
    [{}, {"score": 1.5}, {"score": -0.1}, {"score": 1, "thumbs": "up"}, {"thumbs": "sideways"},
     {"score": 1, "comment": "x" * 2_001}, {"score": 1, "user": ""}, {"score": 1, "stars": 5}, {"score": "1"}],
)  # fmt: skip
async def test_bad_feedback_is_refused(site: Site, fields: dict[str, Any]) -> None:
    """What cannot be read as one opinion is a 422, and changes nothing."""
    await site.add("r1")
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r1", **fields}))[0] == 422
    assert table_text(site.url, "feedback") == "[]"


async def test_feedback_on_what_is_not_there(site: Site) -> None:
    """Unknown requests and those of another tenant are the same 404; a failed one has no answer to rate."""
    await site.add("r1")
    await site.add("failed", status="failed")
    other = await site.key("bob")
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r9", "score": 1}))[0] == 404
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1}, key=other))[0] == 404
    assert (await site.call("POST", "/v1/feedback", {"requestId": "failed", "score": 1}))[0] == 409
    assert (await site.call("DELETE", "/v1/requests/r1/text", key=other))[0] == 404


async def test_a_key_for_other_routers_may_not_rate(site: Site) -> None:
    """Allowed routers hold here, too."""
    await site.add("r1")
    narrow = await site.key(OPERATOR_USER, allowedRouters=["other"])
    assert (await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1}, key=narrow))[0] == 403


async def test_comments_and_texts_are_encrypted(site: Site) -> None:
    """Nobody who reads the database reads what people wrote."""
    await site.add("r1", stored=True)
    await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1, "comment": "a-secret-comment"})
    for table in ("feedback", "stored_texts", "payloads", "requests", "attempts"):
        assert "secret" not in table_text(site.url, table)


async def test_text_is_kept_only_where_the_router_says_so(site: Site) -> None:
    """`storePrompts: false` leaves nothing but the recovery payload."""
    await site.add("stored", stored=True)
    await site.add("plain")
    status, text = await site.call("GET", "/v1/requests/stored/text")
    assert (status, text["body"]) == (200, BODY)
    assert text["answer"]["choices"][0]["message"]["content"] == ANSWER
    assert (await site.call("GET", "/v1/requests/plain/text"))[0] == 404


async def test_a_stored_answer_outlives_the_recovery_payload(site: Site) -> None:
    """After 24 hours the answer comes from the stored text; without one it is gone."""
    for name in ("stored", "plain"):
        await site.add(name, stored=name == "stored")
    with psycopg.connect(site.url) as connection:
        connection.execute("UPDATE payloads SET expires_at = now() - interval '1 second'")
    stored = await site.ledger.find(RequestKey(OPERATOR_USER, "stored"))
    plain = await site.ledger.find(RequestKey(OPERATOR_USER, "plain"))
    assert stored is not None
    assert plain is not None
    assert stored.record.outcome.answer is not None
    assert plain.record.outcome.answer is None


async def test_text_can_be_deleted(site: Site) -> None:
    """Deleting takes every word: the stored text, the recovery payloads, comments. The row and its score stay."""
    await site.add("r1", stored=True)
    await site.call("POST", "/v1/feedback", {"requestId": "r1", "score": 1, "comment": "mine"})
    assert (await site.call("DELETE", "/v1/requests/r1/text"))[0] == 204
    assert (await site.call("DELETE", "/v1/requests/r1/text"))[0] == 404
    assert table_text(site.url, "stored_texts") == table_text(site.url, "payloads") == "[]"
    with psycopg.connect(site.url) as connection:
        assert connection.execute("SELECT score, comment_encrypted FROM feedback").fetchall() == [(1.0, None)]


async def test_text_goes_with_its_router(site: Site) -> None:
    """Deleting a router deletes what was stored for it, and nothing of another's."""
    router = {"id": "support", "availableModels": ["sim/small"], "storePrompts": True}
    await site.call("POST", "/api/routers", router)
    await site.add("r1", stored=True)
    await site.ledger.record(replace(record(OPERATOR_USER, "r2", router_id="other"), stored_body=BODY))
    assert (await site.call("DELETE", "/api/routers/support"))[0] == 204
    assert (await site.call("GET", "/v1/requests/r1/text"))[0] == 404
    assert (await site.call("GET", "/v1/requests/r2/text"))[0] == 200


async def test_text_expires(site: Site) -> None:
    """Behind its retention a text is gone for readers at once, and from the disk with the next sweep."""
    await site.add("r1", stored=True)
    with psycopg.connect(site.url) as connection:
        connection.execute("UPDATE stored_texts SET expires_at = now() - interval '1 second'")
    assert (await site.call("GET", "/v1/requests/r1/text"))[0] == 404
    assert (await Housekeeping(site.database).sweep()).texts == 1
    assert table_text(site.url, "stored_texts") == "[]"
