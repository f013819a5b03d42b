"""The pages about routers: whose they are, who may roll back, what the sandbox asks, and how things are said."""

import csv
import io
from typing import Any

import pytest

from dashboard.frame.urls import router_link
from dashboard.pages import router_detail
from dashboard.pages.router_detail import FRAME
from dashboard.pages.router_detail.view import chat_body, made_from, value_text
from dashboard.pages.routers import chosen, predictor_text, weights_text
from modelpilot.metrics.use import PredictorState
from tests.support.site import NOW_S, FakeAccess, FakeRouters, call, log_in, router_site, use, user

URL = FRAME.id("url")
ASKED = "?id=support&v=1&with=2"


def as_viewer(routers: FakeRouters, role: Any = "viewer") -> Any:
    """A site at which somebody of tenant u1 is logged in."""
    client = router_site(routers, FakeAccess(user("ann", "u1", role)))
    log_in(client, "ann")
    return client


def restore(client: Any, search: str = ASKED) -> dict[str, Any]:
    """Post what the dialog's button posts, whether or not it was there to click."""
    return call(client, router_detail.RESTORE_RESULT, {router_detail.RESTORE_CONFIRM: 1, URL: search})


def test_the_url_names_a_router_among_the_visitors_own() -> None:
    """By id and owner; without a name the busiest; never one that was not read for the visitor."""
    mine, theirs = use("u1"), use("u2")
    other = use("u1", "other")
    assert chosen([mine, theirs, other], {"router": "support", "owner": "u2"}) == theirs
    assert chosen([mine, other], {"router": "support", "owner": "u2"}) == mine
    assert chosen([other, mine], {}) == other
    assert chosen([other], {"router": "support"}) is None
    assert router_link("/what-if", "?range=7d&v=1", theirs) == "/what-if?range=7d&router=support&owner=u2"


def test_a_viewer_cannot_roll_back_by_a_crafted_post() -> None:
    """The role is asked for where the change is made, not where the button is drawn."""
    routers = FakeRouters(use())
    answer = restore(as_viewer(routers))
    assert "Only admins" in str(answer[router_detail.RESTORE_RESULT])
    assert routers.restored == []


def test_an_admin_rolls_back_under_its_own_name() -> None:
    """The version of the URL is restored once, audited as a user of the site, and the page reads again."""
    routers = FakeRouters(use("u2"))
    answer = restore(as_viewer(routers, "admin"))
    assert routers.restored == [("u2", "support", 1, "site:ann")]
    assert "Version 3 has the settings of version 1" in str(answer[router_detail.RESTORE_RESULT])
    assert answer[FRAME.id("refresh")]["n_clicks"] == 1


@pytest.mark.parametrize("search", ["", "?id=support", "?id=support&v=9", "?id=nobody&v=1", "?id=support&v=1&with=9"])
def test_nothing_is_rolled_back_without_router_and_version(search: str) -> None:
    """What the URL does not name, no click changes; least of all the busiest router."""
    routers = FakeRouters(use())
    restore(as_viewer(routers, "admin"), search)
    assert routers.restored == []


def test_the_button_is_offered_to_admins_only() -> None:
    """And where there is something to go back to."""
    for role, search, display in (
        ("viewer", ASKED, "none"),
        ("admin", ASKED, "inline-block"),
        ("admin", "?id=support", "none"),
        ("admin", "?id=support&v=2&with=2", "none"),
    ):
        page = call(as_viewer(FakeRouters(use()), role), router_detail.FACTS, {URL: search})
        assert page[router_detail.RESTORE]["display"] == display
    assert "Version 1" in str(page[router_detail.VERSIONS]) or "first version" in str(page[router_detail.VERSIONS])


def test_the_sandbox_asks_about_the_visitors_own_router() -> None:
    """Tools and JSON are asked for as a client would; another tenant's router is none."""
    routers = FakeRouters(use("u1"), use("u2", "theirs"))
    client = as_viewer(routers)
    given = {
        router_detail.EXPLAIN_ASK: 1,
        router_detail.EXPLAIN_PROMPT: "Hi",
        router_detail.EXPLAIN_NEEDS: ["json"],
        URL: "?id=support",
    }
    shown = str(call(client, router_detail.EXPLAIN_RESULT, given))
    assert "sim/small" in shown
    assert routers.explained == [("u1", "support", chat_body("Hi", ["json"]))]
    for search in ("?id=theirs&owner=u2", "?id=theirs&owner=u2&as=u2"):
        assert "There is no router" in str(call(client, router_detail.EXPLAIN_RESULT, {**given, URL: search}))
    assert "No prompt" in str(call(client, router_detail.EXPLAIN_RESULT, {**given, router_detail.EXPLAIN_PROMPT: "  "}))
    assert len(routers.explained) == 1


def test_routers_leave_as_csv() -> None:
    """One row per router of the tenant, with ids that no spreadsheet runs."""
    routers = FakeRouters(use(), use("u2", "theirs"))
    answer = call(as_viewer(routers), "routers-download.data", {"routers-csv": 1, "routers-url": ""})
    rows = list(csv.DictReader(io.StringIO(answer["routers-download"]["data"]["content"])))
    assert [(row["id"], row["requests"], row["costUsd"]) for row in rows] == [("support", "10", "0.5")]


def test_settings_in_words() -> None:
    """Weights as shares, the largest first; what is not set is a dash; a predictor with its age and last refusal."""
    body = use().body
    assert weights_text(body) == "quality 75 %, cost 25 %"
    assert weights_text({"objective": {}}).count("25 %") == 4
    assert [value_text(one) for one in (None, [], True, 0.25, ["a", "b"], "x")] == [
        "–",
        "–",
        "yes",
        "0.25",
        "a, b",
        "x",
    ]
    assert predictor_text(PredictorState(), NOW_S) == "none yet"
    fitted = PredictorState(4, NOW_S - 7_200.0, 1_000, NOW_S, "worse than the means")
    assert "2 h ago, 1,000 rows; then refused: worse than the means" in str(predictor_text(fitted, NOW_S))


def test_a_degraded_decision_says_so() -> None:
    """What could not be had is named, since the catalogue's values stand in for it."""
    said = made_from({"configVersion": 1, "requestType": "chat", "promptTokens": 5, "degraded": ["vector"]})
    assert "Without vector" in said
    assert "no fitted predictor yet" in said
