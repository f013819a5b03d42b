"""Routers, What-if, Frontier and Jobs in a real browser, on what the demo sent."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, expect

from dashboard.pages import frontier, router_detail, what_if
from tests.browser.conftest import Visitors
from tests.support.browser import DESKTOP_PX, PHONE_PX, Scheme, Visit
from tests.support.filled_site import TRAFFIC, FilledSite

ROUTER, SENT = TRAFFIC["team-a"]
DETAIL = f"/routers/detail?id={ROUTER}&owner=team-a"


def card(window: Visit, label: str) -> Locator:
    """The value of a card."""
    return window.page.locator("dl", has=window.page.locator("dt", has_text=label)).locator("dd").first


def test_routers_lead_to_their_requests_and_versions(visit: Visitors) -> None:
    """The list counts what was sent, and its links open the router and the requests behind the figure."""
    window = visit("alice")
    window.open("/routers")
    row = window.page.get_by_role("row", name=ROUTER)
    expect(row).to_contain_text("sim/small, sim/medium, sim/large")
    expect(row.get_by_role("link", name=str(SENT), exact=True)).to_have_attribute("href", f"/requests?router={ROUTER}")
    row.get_by_role("link", name=ROUTER).click()
    window.page.wait_for_url("**/routers/detail?**")
    expect(window.page.get_by_text("1 (now)")).to_be_visible()
    with window.page.expect_download() as download:
        window.open("/routers")
        window.page.get_by_role("button", name="Download CSV").click()
    assert ROUTER in download.value.path().read_text()


@pytest.mark.parametrize(("width_px", "scheme"), [(DESKTOP_PX, "light"), (PHONE_PX, "dark")])
def test_the_sandbox_shows_the_decision(visit: Visitors, width_px: int, scheme: Scheme) -> None:
    """A prompt gives every candidate with its score, and the model that would be chosen; tools are a need like any."""
    window = visit("alice", width_px=width_px, scheme=scheme)
    window.open(DETAIL)
    window.page.get_by_label("Prompt").fill("What is the capital of France?")
    window.page.get_by_role("checkbox", name="with tools").check()
    window.page.get_by_role("button", name="Explain").click()
    result = window.page.locator(f"#{router_detail.EXPLAIN_RESULT}")
    expect(result).to_contain_text("would be chosen")
    for model in ("sim/small", "sim/medium", "sim/large"):
        expect(result.get_by_role("cell", name=model).first).to_be_visible()
    expect(result).to_contain_text("Similar past prompts")
    assert "Without vector" not in result.inner_text()
    window.screenshot(f"explained-{width_px}-{scheme}")
    assert window.overflow_px() <= 0
    assert window.serious_findings() == []
    window.page.get_by_label("Prompt").fill(" ")
    window.page.get_by_role("button", name="Explain").click()
    expect(result).to_contain_text("Write what a user would say")


def test_rolling_back_changes_what_the_gateway_decides(visit: Visitors, site: FilledSite) -> None:
    """An admin compares, confirms, and the gateway answers with the old settings as a new version; cancel does not."""
    key, document = _router_of_its_own(site, exploration=0.0)
    _apply(site, key, {**document, "exploration": 0.5})
    assert _explained(site, key)["configVersion"] == 2
    window = visit("root")
    window.open("/routers/detail?id=gnu&owner=team-c")
    window.page.get_by_role("link", name="with today's").click()
    changes = window.page.locator(f"#{router_detail.CHANGES}")
    expect(changes).to_contain_text("exploration")
    offered = window.page.get_by_role("button", name="Roll back to version 1")
    dialog = window.page.get_by_role("dialog", name="Roll back this router?")
    offered.click()
    expect(dialog).to_contain_text("settings of version 1")
    assert window.serious_findings() == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert _explained(site, key)["configVersion"] == 2
    offered.click()
    dialog.get_by_role("button", name="Roll back").click()
    expect(window.page.get_by_text("Version 3 has the settings of version 1.")).to_be_visible()
    expect(window.page.get_by_text("3 (now)")).to_be_visible()
    expect(window.page.get_by_text("site:root")).to_be_visible()
    decided = _explained(site, key)
    assert decided["configVersion"] == 3
    assert {one["probability"] for one in decided["candidates"]} == {0.0, 1.0}  # it does not explore any more


def test_a_viewer_cannot_roll_back(visit: Visitors, site: FilledSite) -> None:
    """There is no button, and the post that an admin's click makes changes nothing with a viewer's cookie."""
    window = visit("alice")
    window.open(f"{DETAIL}&v=1&with=1")
    expect(window.page.get_by_role("button", name="Roll back")).to_be_hidden()
    url = router_detail.FRAME.id("url")
    body = {
        "output": f"..{router_detail.RESTORE_RESULT}.children...{router_detail.FRAME.id('refresh')}.n_clicks..",
        "outputs": [
            {"id": router_detail.RESTORE_RESULT, "property": "children"},
            {"id": router_detail.FRAME.id("refresh"), "property": "n_clicks"},
        ],
        "inputs": [{"id": router_detail.RESTORE_CONFIRM, "property": "n_clicks", "value": 1}],
        "state": [
            {"id": url, "property": "search", "value": f"?id={ROUTER}&v=1&with=1"},
            {"id": router_detail.FRAME.id("refresh"), "property": "n_clicks", "value": 0},
        ],
        "changedPropIds": [f"{router_detail.RESTORE_CONFIRM}.n_clicks"],
    }
    answer = window.context.request.post(f"{window.url}/_dash-update-component", data=body)
    assert answer.status == 200
    assert "Only admins roll back a router" in answer.text()
    window.open(DETAIL)
    expect(window.page.get_by_text("1 (now)")).to_be_visible()


def test_sliders_change_the_figures_and_stay_in_the_url(visit: Visitors) -> None:
    """Another weight is another replay; a reload keeps it, the link back undoes it, and the JSON says what to apply."""
    window = visit("alice")
    window.open(f"/what-if?router={ROUTER}")
    expect(card(window, "Requests replayed")).to_have_text(str(SENT))
    expect(card(window, "Go to another model")).to_have_text("0.0 %")
    thumb = window.page.get_by_role("slider", name="Weight of cost")
    start = thumb.get_attribute("aria-valuenow")
    for part, key, written in (
        ("cost", "Home", "0,25,25,25"),
        ("latency", "Home", "0,0,25,25"),
        ("carbon", "Home", "0,0,25,0"),
        ("quality", "End", "0,0,100,0"),
    ):
        window.page.get_by_role("slider", name=f"Weight of {part}").press(key)
        window.page.wait_for_url(f"**w={quote(written)}**")
    expect(card(window, "Go to another model")).to_have_text("100.0 %")
    window.settle()
    moved = window.page.locator(f"#{what_if.PREDICTED}").inner_text()
    window.page.reload()
    window.settle()
    assert window.page.locator(f"#{what_if.PREDICTED}").inner_text() == moved
    expect(window.page.get_by_role("slider", name="Weight of quality")).to_have_attribute("aria-valuenow", "100")
    window.page.get_by_text("The whole router as JSON").click()
    proposed = json.loads(window.page.locator(f"#{what_if.FILE}").inner_text())
    assert (proposed["id"], proposed["objective"]["qualityWeight"]) == (ROUTER, 1.0)
    window.page.get_by_role("link", name="Back to today's settings").click()
    expect(thumb).to_have_attribute("aria-valuenow", start or "")
    expect(card(window, "Go to another model")).to_have_text("0.0 %")


def test_models_and_limits_of_a_proposal(visit: Visitors) -> None:
    """Leaving models out sends their requests to others; a limit that no model meets is said, not hidden."""
    window = visit("alice")
    window.open(f"/what-if?router={ROUTER}&models=sim/large")
    table = window.page.locator(f"#{what_if.CHART_TABLE}")
    table.get_by_text("Show as table").click()
    expect(table.get_by_role("row", name="sim/large")).to_contain_text("100.0 %")
    field = window.page.get_by_label("Lowest quality (0 to 1)")
    field.fill("1")
    window.page.wait_for_url("**limits=own**")
    expect(window.page.locator("dl", has_text="Go to another model")).to_contain_text("would be served by no model")
    assert window.serious_findings() == []


def test_the_frontier_says_what_its_points_stand_on(visit: Visitors) -> None:
    """Three models on the plane, with the requests behind them, in the chart's table and in the CSV."""
    window = visit("alice")
    window.open(f"/frontier?router={ROUTER}")
    table = window.page.locator(f"#{frontier.TABLE}")
    for model in ("sim/small", "sim/medium", "sim/large"):
        expect(table.get_by_role("row", name=model).first).to_contain_text(str(SENT))
    for kind in ("Random choice, as predicted", "Best model per request, as predicted", "This router, as predicted"):
        expect(table).to_contain_text(kind)
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="Download CSV").click()
    rows = download.value.path().read_text().splitlines()
    assert sum(row.startswith("sim/") and "as predicted" in row for row in rows) == 3


def test_jobs_say_when_they_run_next(visit: Visitors) -> None:
    """Every schedule with its next run and its command; other tenants' counts are for admins."""
    window = visit("alice")
    window.open("/jobs")
    for title in ("Hourly metrics and export", "Refit of predictors", "Nightly re-scoring"):
        expect(window.page.get_by_role("cell", name=title)).to_be_visible()
    expect(window.page.get_by_text("modelpilot jobs aggregate")).to_be_visible()
    assert "Hours computed" not in window.text()


def _router_of_its_own(site: FilledSite, **changes: Any) -> tuple[str, dict[str, Any]]:
    """A tenant and router that no other test looks at."""
    scopes = ("--scope", "admin", "--scope", "route")
    key: str = json.loads(site.modelpilot("keys", "create", "--user", "team-c", *scopes, "--json"))["key"]
    document = {"id": "gnu", "availableModels": ["sim/small", "sim/large"], **changes}
    _apply(site, key, document)
    return key, document


def _apply(site: FilledSite, key: str, document: dict[str, Any]) -> None:
    path = site.world.directory / "gnu.json"
    path.write_text(json.dumps(document))
    site.modelpilot("routers", "apply", "-f", str(path), key=key)


def _explained(site: FilledSite, key: str) -> dict[str, Any]:
    """What the gateway decides now."""
    found: dict[str, Any] = json.loads(site.modelpilot("explain", "Hello", "--router", "gnu", "--json", key=key))
    return found
