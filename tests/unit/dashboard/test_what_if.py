"""The What-if page: its URL, its controls, and what it says about a replay."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.frame.formats import format_usd
from dashboard.frame.urls import query, search_with
from dashboard.pages import what_if
from dashboard.pages.what_if import FRAME
from dashboard.pages.what_if import results as view
from dashboard.pages.what_if.proposal import LIMITS, NAMES, Shown, changes, proposal, proposed_router, shown
from modelpilot.learning.replay import Proposal, replay
from modelpilot.routing.router import Objective, Router
from tests.support.site import BODY, FakeAccess, FakeRouters, call, log_in, router_site, use, user
from tests.unit.learning.test_replay import SPECS, logged

URL = FRAME.id("url")
TODAY = Shown((25, 0, 75, 0), ("sim/small", "sim/large"), 5.0, (None, 5_000, None))


def test_without_a_word_in_the_url_controls_show_the_router() -> None:
    """And nothing is proposed: the router as it is, whatever nonsense the URL has."""
    for search in ("", "?w=1,2,3", "?w=a,b,c,d", "?explore=-1", "?explore=nan", "?maxCost=1", "?models=,"):
        assert shown(query(search), BODY) == TODAY
        assert proposal(query(search), BODY) == {}
        assert proposed_router(query(search), BODY) == BODY


def test_a_proposal_changes_what_it_names_and_nothing_else() -> None:
    """The rest of the router stays, limits that the page does not show included."""
    values = query("?w=40,0,60,0&models=sim/large&explore=10&limits=own&maxCost=0.02")
    proposed = proposed_router(values, BODY)
    assert proposed["objective"] == {"costWeight": 0.4, "latencyWeight": 0.0, "qualityWeight": 0.6, "carbonWeight": 0.0}
    assert proposed["availableModels"] == ["sim/large"]
    assert proposed["exploration"] == 0.1
    assert proposed["constraints"] == {
        "maxCostUsd": 0.02, "maxLatencyMs": None, "minQuality": None, "requiredCapabilities": [],
    }  # fmt: skip
    assert {name: proposed[name] for name in ("id", "name", "mode")} == {
        name: BODY[name] for name in ("id", "name", "mode")
    }
    Router.model_validate(proposed)


LIMIT = st.none() | st.floats(0.0, 1.0).map(lambda value: float(f"{value:.6g}"))
STATES = st.builds(
    Shown,
    weights=st.tuples(*(st.integers(0, 100) for _ in range(4))),
    models=st.lists(st.sampled_from(("sim/small", "sim/large", "a:b@c/d+e")), min_size=1, unique=True).map(tuple),
    explore_percent=st.integers(0, 1_000).map(lambda tenths: tenths / 10.0),
    limits=st.tuples(*(LIMIT for _ in LIMITS)),
)


@given(STATES, st.sampled_from(("", "?range=7d&w=1,2,3,4&limits=own&minQuality=0.5&models=x")))
def test_the_url_keeps_what_the_controls_say(state: Shown, search: str) -> None:
    """Whatever the controls are set to is written, read back the same, and then there is nothing more to write."""
    written = search_with(search, changes(shown(query(search), BODY), state))
    back = shown(query(written), BODY)
    assert (back.weights, back.explore_percent, back.limits) == (state.weights, state.explore_percent, state.limits)
    assert set(back.models) == set(state.models)
    assert changes(back, state) == {}
    assert query(written).get("range") == query(search).get("range")


def _client(routers: FakeRouters) -> Any:
    client = router_site(routers, FakeAccess(user("ann", "u1")))
    log_in(client, "ann")
    return client


def test_the_page_replays_the_proposal_for_the_visitors_router() -> None:
    """Tenant, router, range and settings reach the replay; another tenant's router never does."""
    routers = FakeRouters(use(), use("u2", "theirs"))
    client = _client(routers)
    call(client, what_if.CARDS, {URL: "?range=1h&w=100,0,0,0"})
    (user_id, router_id, body) = routers.replays[0]
    assert (user_id, router_id) == ("u1", "support")
    assert body["objective"]["costWeight"] == 1.0
    assert body["from"] == "2027-01-15T11:00:00Z"
    assert "There is no router theirs" in str(call(client, what_if.CARDS, {URL: "?router=theirs&owner=u2&as=u2"}))
    assert len(routers.replays) == 1


def test_controls_write_the_url_and_the_url_sets_them() -> None:
    """A moved slider lands in the URL; a link sets every control; what agrees already writes nothing."""
    client = _client(FakeRouters(use()))
    controls = {
        **dict(zip(what_if.WEIGHTS, (50, 0, 75, 0), strict=True)),
        what_if.MODELS: list(TODAY.models),
        what_if.EXPLORE: 5,
        **dict(zip(what_if.LIMITS, TODAY.limits, strict=True)),
        URL: "?range=7d",
    }
    moved = call(client, what_if.MODELS + ".data", controls, changed=what_if.WEIGHTS[0])
    assert query(moved[URL]["search"]) == {"range": "7d", "w": "50,0,75,0"}
    linked = call(client, what_if.MODELS + ".data", {**controls, URL: "?w=1,2,3,4"}, changed=URL)
    assert [linked[slider]["value"] for slider in what_if.WEIGHTS] == [1, 2, 3, 4]
    same = dict(zip(what_if.WEIGHTS, TODAY.weights, strict=True))
    assert call(client, what_if.MODELS + ".data", {**controls, **same}, changed=what_if.WEIGHTS[0]) == {
        "sideUpdate": None
    }


def test_a_replay_in_words() -> None:
    """Before, after and the difference with its sign and interval; shares add up to all; figures leave as CSV."""
    found = replay(logged(200, 1), Proposal(objective=Objective(quality_weight=1.0), specs=SPECS))
    before, after = found["predicted"]["costUsd"]["logged"]["mean"], found["predicted"]["costUsd"]["proposed"]["mean"]
    assert after > before
    table = str(view.predicted_table(found))
    assert f"+{format_usd((after - before) * 1_000)}" in table
    figure = view.shares_figure(found)
    for trace in figure.data:
        assert sum(trace.x) == pytest.approx(1.0)
    columns, rows = view.csv_rows(found)
    costs = {row[2]: row[3] for row in rows if row[:2] == ("predicted", "costUsd")}
    assert (costs["logged"], costs["proposed"]) == (before, after)
    assert len(columns) == len(next(iter(rows)))


def test_thin_evidence_is_said() -> None:
    """Few outcomes, choices that were never made, and unknown models are each named; good evidence says nothing."""
    few = replay(logged(20, 1, exploration=0.0), Proposal(objective=Objective(quality_weight=1.0), specs=SPECS))
    said = str(view.evidence_notice(few))
    assert "worth 0 independent ones" in said
    assert "of the proposed choices were never made" in said
    assert "fewer than 10 similar prompts" in said
    unknown = replay(logged(20, 1), Proposal(models=("cheap", "nobody"), specs=SPECS))
    assert "nobody is left out" in str(view.evidence_notice(unknown))
    nothing = {
        "minimumNeighbours": 10,
        "requestShare": 0.0,
        "models": [],
        "notConsidered": [],
        "offPolicyReliable": True,
    }
    assert view.evidence_notice({"thinEvidence": nothing}) is None


def test_many_models_become_one_row() -> None:
    """A catalogue of a hundred stays readable, and no share is lost."""
    models = [{"model": f"m{n:02}", "loggedShare": 0.05, "proposedShare": 0.05, "evidence": 1} for n in range(20)]
    rows = view.shares({"models": models})
    assert len(rows) == view.MOST_MODELS
    assert sum(row["proposedShare"] for row in rows) == pytest.approx(1.0)
    assert rows[-1]["model"] == "9 other models"


def test_every_name_in_the_url_can_be_taken_back() -> None:
    """The link back to today's settings appears with any of them."""
    client = _client(FakeRouters(use()))
    for search in ("?w=1,2,3,4", "?models=sim/large", "?explore=7", "?limits=own"):
        shown_page = str(call(client, what_if.ABOUT, {URL: search}))
        assert "Back to today" in shown_page
    assert "Back to today" not in str(call(client, what_if.ABOUT, {URL: "?range=7d"}))
    assert set(LIMITS) < set(NAMES)
