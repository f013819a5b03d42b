"""Navigation, time zone, colour scheme and refresh of the site."""

import pytest
from playwright.sync_api import expect

from dashboard.pages.overview import FRAME
from tests.browser.conftest import Visitors
from tests.support.browser import PHONE_PX
from tests.support.filled_site import TRAFFIC

pytestmark = pytest.mark.timeout(300)

ALL_REQUESTS = sum(count for _, count in TRAFFIC.values())


def test_overview_counts_what_the_demo_sent(visit: Visitors) -> None:
    """The first figure of the site is the truth: every request that was sent, and no other."""
    window = visit("root")
    window.open("/")
    cards = window.page.locator("dl", has_text="Requests").first
    assert cards.locator("dd").first.inner_text() == str(ALL_REQUESTS)


def test_local_time_is_shown_and_remembered(visit: Visitors) -> None:
    """The switch shows every time in the browser's zone, and a reload does not forget it."""
    window = visit("root", zone="Asia/Kolkata")
    window.open("/")
    as_of = window.page.locator(f"#{FRAME.id('as-of')}")
    expect(as_of).to_contain_text("UTC")
    window.page.get_by_role("radiogroup", name="Time zone").get_by_text("Local").click()
    expect(as_of).to_contain_text("IST")
    window.page.reload()
    expect(as_of).to_contain_text("IST")


def test_scheme_is_switched_and_remembered(visit: Visitors) -> None:
    """Dark mode is a choice of the visitor that outlasts a reload, on the login page, too."""
    window = visit("root")
    window.open("/")
    html = window.page.locator("html")
    expect(html).to_have_attribute("data-mantine-color-scheme", "light")
    window.page.get_by_role("button", name="Switch between light and dark").click()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")
    window.page.reload()
    expect(html).to_have_attribute("data-mantine-color-scheme", "dark")
    window.page.goto("about:blank")  # or its next refresh would meet a 401
    window.context.clear_cookies()
    window.page.goto(f"{window.url}/login")
    expect(html).to_have_attribute("data-scheme", "dark")


def test_menu_of_a_phone(visit: Visitors) -> None:
    """At 390 px the pages are behind a button that works by keyboard, and Escape closes it."""
    window = visit("root", width_px=PHONE_PX)
    window.open("/")
    menu = window.page.get_by_role("dialog", name="Menu")
    expect(menu).to_be_hidden()
    window.page.get_by_role("button", name="Menu", exact=True).press("Enter")
    expect(menu.get_by_role("link", name="Overview")).to_be_visible()
    expect(menu.get_by_role("button", name="Log out")).to_be_visible()
    assert window.serious_findings() == []
    window.page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    window.page.get_by_role("button", name="Menu", exact=True).click()
    menu.get_by_role("link", name="Overview").click()
    expect(menu).to_be_hidden()


def test_skip_link_leads_past_the_navigation(visit: Visitors) -> None:
    """The first stop of the keyboard shows itself and leads to the content."""
    window = visit("root")
    window.open("/")
    window.page.keyboard.press("Tab")
    skip = window.page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    window.page.keyboard.press("Enter")
    expect(window.page.locator("main")).to_be_focused()


def test_auto_refresh_asks_again_until_it_is_paused(visit: Visitors) -> None:
    """The switch is remembered; while it is off only the button asks."""
    window = visit("root")
    window.open("/")
    switch = window.page.get_by_role("switch", name="Auto-refresh")
    expect(switch).to_be_checked()
    switch.uncheck(force=True)
    window.page.reload()
    window.settle()
    expect(switch).not_to_be_checked()
    before = len(window.callbacks)
    with window.page.expect_response("**/_dash-update-component*"):
        window.page.get_by_role("button", name="Refresh", exact=True).click()
    assert len(window.callbacks) > before


def test_unknown_addresses_say_so(visit: Visitors) -> None:
    """A page that does not exist has a title, a way back, and the status 404."""
    window = visit("root")
    answer = window.page.goto(f"{window.url}/nowhere")
    window.settle()
    assert answer
    assert answer.status == 404
    assert window.page.title() == "No such page · ModelPilot"
    window.page.get_by_role("link", name="Go to the overview").click()
    expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()
    assert [trouble for trouble in window.troubles if "404" not in trouble] == []
    window.troubles.clear()


def test_bars_lead_to_their_requests(visit: Visitors) -> None:
    """A click on a bar opens the list of exactly these requests."""
    window = visit("root")
    window.open("/")
    bar = window.page.locator("#overview-model-chart .points path").first
    bar.click(force=True)
    window.page.wait_for_url("**/requests?**model=sim*")
    window.settle()
    expect(window.page.get_by_role("heading", name="Requests", level=1)).to_be_visible()


def test_an_admin_looks_as_one_user(visit: Visitors) -> None:
    """The choice is a filter like any other: in the URL, shown in a banner, and it narrows every figure."""
    window = visit("root")
    window.open("/")
    window.page.get_by_role("textbox", name="User").click()
    window.page.get_by_role("option", name="team-b").click()
    window.page.wait_for_url("**as=team-b**")
    expect(window.page.get_by_text("Looking as team-b")).to_be_visible()
    requests = window.page.locator("dl", has_text="Requests").first.locator("dd").first
    expect(requests).to_have_text(str(TRAFFIC["team-b"][1]))
    window.page.get_by_role("link", name="Show everybody").click()
    expect(requests).to_have_text(str(ALL_REQUESTS))
